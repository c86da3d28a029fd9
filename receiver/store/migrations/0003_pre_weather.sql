-- The inbox can be searched and replayed and says what each callback told; accounts remember their console's last test.

-- Not checked against the rows that exist: that would lock out callbacks for as long as it reads them.
ALTER TABLE inbox
    ADD COLUMN told text,
    ADD CONSTRAINT inbox_told CHECK (told IN ('submitted', 'processing', 'succeeded', 'failed')) NOT VALID;
COMMENT ON COLUMN inbox.told IS 'The status that it gave its task; null when it is unread, unreadable, or about no task of ours';
-- Few rows, so that keeping a callback costs nothing for it.
CREATE INDEX inbox_remarkable ON inbox (outcome, id) WHERE outcome IN ('orphan', 'cross_wired', 'unreadable');

CREATE TABLE console_test (
    account text PRIMARY KEY REFERENCES account,
    at timestamptz NOT NULL DEFAULT now(),
    verdict text NOT NULL CHECK (verdict IN ('good', 'stale', 'bad', 'absent')),
    secret text
);
COMMENT ON TABLE console_test IS 'The last test callback of each account from its provider''s console; nothing else of it is kept';
