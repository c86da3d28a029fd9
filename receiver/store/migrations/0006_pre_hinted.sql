-- A create whose reply was lost can be asked after by the id that a callback names.

ALTER TABLE task ADD COLUMN hinted_id text;
