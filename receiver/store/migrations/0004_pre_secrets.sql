-- Secrets have an age; which of them open tasks need is told by the events that name it.

CREATE TABLE secret (
    account text NOT NULL,
    key_id text NOT NULL CHECK (key_id ~ '^[0-9a-f]{8}$'),
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, key_id)
);
COMMENT ON TABLE secret IS 'Fingerprints of the callback secrets (no account) and of the accounts'' webhook secrets, since a process first had them';
