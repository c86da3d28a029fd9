-- How fast an account may be spoken to: its circuit, its budget of requests, a limit lowered for a while, its list.

CREATE TABLE pace (
    account text PRIMARY KEY REFERENCES account,
    failures int NOT NULL DEFAULT 0 CHECK (failures >= 0),
    open_until timestamptz,
    open_reason text,
    next_request_at timestamptz,
    lowered_to int CHECK (lowered_to > 0),
    lowered_until timestamptz,
    CHECK ((open_until IS NULL) = (open_reason IS NULL)),
    CHECK ((lowered_to IS NULL) = (lowered_until IS NULL))
) WITH (fillfactor = 50);
COMMENT ON COLUMN pace.failures IS 'Answers in a row that settled nothing; from a number on the circuit is open';
COMMENT ON COLUMN pace.open_until IS 'Nothing is sent before; then one request tries';
COMMENT ON COLUMN pace.next_request_at IS 'When the budget of requests per minute is whole again';

CREATE TABLE list_turn (
    account text NOT NULL REFERENCES account,
    kind text NOT NULL,
    taken_until timestamptz NOT NULL,
    read_at timestamptz,
    PRIMARY KEY (account, kind)
);
COMMENT ON COLUMN list_turn.read_at IS 'When the last complete reading of the provider''s list began';

CREATE INDEX job_ready_query ON job (account, run_at) WHERE state = 'ready' AND kind = 'query';
