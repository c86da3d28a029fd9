-- Where only a create can tell that an account is taken again, one held task is let go to try it.

ALTER TABLE account ADD COLUMN probe_task bigint;
COMMENT ON COLUMN account.probe_task IS 'The one task that is sent although the account is paused: what becomes of its create may end the pause';
