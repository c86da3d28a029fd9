-- The spine: accounts, keys, tasks, assets, the inbox, jobs and the append-only story.

CREATE TABLE fact (
    name text PRIMARY KEY,
    value text NOT NULL
);
COMMENT ON TABLE fact IS 'What every process of a deployment must agree on, such as the fingerprint of the callback secrets';

CREATE TABLE account (
    id text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    dialect text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    paused_reason text,
    paused_detail text,
    paused_at timestamptz,
    probed_at timestamptz,
    CHECK ((paused_reason IS NULL) = (paused_at IS NULL))
);

CREATE TABLE api_key (
    id text PRIMARY KEY,
    owner text NOT NULL CHECK (owner <> ''),
    hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    daily_tasks int CHECK (daily_tasks >= 0),
    daily_units numeric CHECK (daily_units >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

CREATE TABLE task (
    id bigint PRIMARY KEY CHECK (id > 0),
    owner text NOT NULL CHECK (owner <> ''),
    account text NOT NULL REFERENCES account,
    kind text NOT NULL,
    input jsonb NOT NULL CHECK (jsonb_typeof(input) = 'object'),
    reference text,
    labels jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(labels) = 'object'),
    api_key text,
    adopted boolean NOT NULL DEFAULT false,
    idempotency_key text,
    request_hash bytea NOT NULL CHECK (length(request_hash) = 32),
    state text NOT NULL CHECK (state IN (
        'accepted', 'submitting', 'submitted', 'processing', 'succeeded',
        'archived', 'partial', 'failed', 'rejected', 'expired', 'cancelled')),
    reason text,
    detail text,
    attention text,
    revision int NOT NULL DEFAULT 1 CHECK (revision > 0),
    provider_task_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    submit_by timestamptz NOT NULL,
    first_sent_at timestamptz,
    last_sent_at timestamptz,
    sends int NOT NULL DEFAULT 0 CHECK (sends >= 0),
    unsure boolean NOT NULL DEFAULT false,
    settle_by timestamptz,
    due_at timestamptz,
    ended_at timestamptz,
    polls int NOT NULL DEFAULT 0,
    last_polled_at timestamptz,
    no_media int NOT NULL DEFAULT 0,
    asked_again boolean NOT NULL DEFAULT false,
    query_wanted boolean NOT NULL DEFAULT false,
    grace_given boolean NOT NULL DEFAULT false,
    units text,
    trust text CHECK (trust IN ('token', 'confirmed', 'signed')),
    UNIQUE (owner, idempotency_key),
    CHECK ((due_at IS NULL) = (state IN ('archived', 'partial', 'failed', 'rejected', 'expired', 'cancelled'))),
    CHECK ((ended_at IS NULL) = (due_at IS NOT NULL)),
    CHECK (state <> 'submitting' OR (first_sent_at IS NOT NULL AND sends > 0)),
    CHECK ((sends > 0) = (first_sent_at IS NOT NULL)),
    CHECK (state NOT IN ('partial', 'failed', 'rejected', 'expired', 'cancelled') OR reason IS NOT NULL)
);
CREATE INDEX task_newest ON task (owner, id DESC);
CREATE INDEX task_by_state ON task (owner, state, id DESC);
CREATE INDEX task_by_account ON task (owner, account, state, id DESC);
CREATE INDEX task_of_account ON task (account, id);
CREATE INDEX task_of_key ON task (api_key, id);
CREATE INDEX task_cost_of_account ON task (account, ended_at) INCLUDE (units) WHERE units IS NOT NULL;
CREATE INDEX task_cost_of_key ON task (api_key, ended_at) INCLUDE (units) WHERE units IS NOT NULL;
CREATE UNIQUE INDEX task_adopted ON task (account, provider_task_id) WHERE adopted;
CREATE INDEX task_at_provider ON task (account, provider_task_id) WHERE provider_task_id IS NOT NULL;
CREATE INDEX task_due ON task (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX task_slot ON task (account) WHERE state IN ('submitting', 'submitted', 'processing');

CREATE TABLE asset (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_id bigint NOT NULL REFERENCES task,
    clip text NOT NULL,
    position int NOT NULL CHECK (position >= 0),
    format text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'stored', 'expired', 'invalid')),
    url text NOT NULL,
    trust text NOT NULL CHECK (trust IN ('token', 'confirmed', 'signed')),
    link_expires_at timestamptz,
    gone_at timestamptz NOT NULL,
    key text UNIQUE,
    size bigint CHECK (size > 0),
    sha256 bytea CHECK (length(sha256) = 32),
    media_type text,
    duration interval,
    verified text CHECK (verified IN ('checksum', 'readback')),
    stored_at timestamptz,
    error text,
    invalid_fetches int NOT NULL DEFAULT 0,
    UNIQUE (task_id, clip, format),
    CHECK (state <> 'stored' OR (key IS NOT NULL AND size IS NOT NULL AND sha256 IS NOT NULL
        AND media_type IS NOT NULL AND verified IS NOT NULL AND stored_at IS NOT NULL)),
    CHECK (state = 'stored' OR key IS NULL),
    CHECK (state NOT IN ('expired', 'invalid') OR error IS NOT NULL)
);
CREATE INDEX asset_pending ON asset (task_id) WHERE state = 'pending';

CREATE TABLE event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_id bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    type text NOT NULL,
    data jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX event_story ON event (task_id, id);
CREATE UNIQUE INDEX event_accepted ON event (task_id) WHERE type = 'task.accepted';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER event_append_only BEFORE UPDATE ON event FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- No foreign key to task: the answer to a callback never waits for a task's row.
CREATE TABLE inbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text NOT NULL,
    task_id bigint NOT NULL,
    verified boolean NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    body bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    repeats int NOT NULL DEFAULT 0,
    processed_at timestamptz,
    outcome text,
    UNIQUE (task_id, account, verified, digest),
    CHECK ((processed_at IS NULL) = (outcome IS NULL))
);
CREATE INDEX inbox_unprocessed ON inbox (id) WHERE processed_at IS NULL;

CREATE TABLE inbox_repeat (
    account text NOT NULL,
    task_id bigint NOT NULL,
    verified boolean NOT NULL,
    digest bytea NOT NULL,
    times int NOT NULL CHECK (times > 0)
);
COMMENT ON TABLE inbox_repeat IS 'Insert-only; a sweep folds it into inbox.repeats, so that the answer never waits for advance';

CREATE TABLE job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('submit', 'query', 'advance', 'archive')),
    subject bigint NOT NULL,
    account text NOT NULL,
    state text NOT NULL CHECK (state IN ('waiting', 'ready', 'leased', 'dead')),
    held boolean NOT NULL DEFAULT false,
    run_at timestamptz NOT NULL,
    deliver_by timestamptz NOT NULL,
    wanted int NOT NULL DEFAULT 1,
    attempt int NOT NULL DEFAULT 0,
    lost int NOT NULL DEFAULT 0,
    same_error int NOT NULL DEFAULT 0,
    lease_until timestamptz,
    lease_token uuid,
    last_error text,
    UNIQUE (kind, subject),
    CHECK ((state = 'leased') = (lease_token IS NOT NULL)),
    CHECK ((state = 'leased') = (lease_until IS NOT NULL)),
    CHECK (NOT held OR (kind = 'submit' AND state = 'waiting'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX job_ready ON job (kind, deliver_by, id) WHERE state = 'ready';
CREATE INDEX job_waiting ON job (run_at) WHERE state = 'waiting' AND NOT held;
CREATE INDEX job_leased ON job (kind, lease_until) WHERE state = 'leased';
CREATE INDEX job_held ON job (account, deliver_by, id) WHERE held;

CREATE TABLE worker (
    id uuid PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON COLUMN worker.finished_at IS 'When it last finished a job: tells a job that kills its worker from an outage';
