-- Every filter of the list of tasks reads from an index of its own, in the list's order.

ALTER TABLE task ADD COLUMN deliver_by timestamptz;
COMMENT ON COLUMN task.deliver_by IS 'The least deliver_by of its pending assets; null when none is pending';
UPDATE task SET deliver_by = (SELECT min(least(link_expires_at, gone_at)) FROM asset
                               WHERE asset.task_id = task.id AND asset.state = 'pending')
 WHERE state = 'succeeded';

CREATE INDEX task_by_reference ON task (owner, reference, id DESC) WHERE reference IS NOT NULL;
CREATE INDEX task_newest_of_account ON task (owner, account, id DESC);
CREATE INDEX task_by_kind ON task (owner, kind, id DESC);
CREATE INDEX task_by_attention ON task (owner, attention, id DESC) WHERE attention IS NOT NULL;
CREATE INDEX task_attended ON task (owner, id DESC) WHERE attention IS NOT NULL;
CREATE INDEX task_deliver_by ON task (deliver_by) WHERE deliver_by IS NOT NULL;

-- Of any length, so it is hashed; a b-tree, because an inverted index would read all tasks of a common label for one page.
CREATE FUNCTION label_digest(name text, value text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN substr(sha256(convert_to(length(name)::text || ':' || name || value, 'UTF8')), 1, 16);

CREATE TABLE task_label (
    owner text NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 16),
    task_id bigint NOT NULL,
    PRIMARY KEY (owner, digest, task_id)
);
COMMENT ON TABLE task_label IS 'An index of task.labels, kept by triggers alone';

CREATE FUNCTION index_labels() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_label (owner, digest, task_id)
    SELECT NEW.owner, label_digest(key, value), NEW.id FROM jsonb_each_text(NEW.labels);
    RETURN NULL;
END
$$;
CREATE FUNCTION forget_labels() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM task_label
     WHERE owner = OLD.owner AND task_id = OLD.id
       AND digest IN (SELECT label_digest(key, value) FROM jsonb_each_text(OLD.labels));
    RETURN NULL;
END
$$;
CREATE TRIGGER task_labelled AFTER INSERT ON task FOR EACH ROW
    WHEN (NEW.labels <> '{}') EXECUTE FUNCTION index_labels();
CREATE TRIGGER task_unlabelled AFTER DELETE ON task FOR EACH ROW
    WHEN (OLD.labels <> '{}') EXECUTE FUNCTION forget_labels();
CREATE TRIGGER task_relabelled_from AFTER UPDATE OF owner, labels ON task FOR EACH ROW
    WHEN ((OLD.owner, OLD.labels) IS DISTINCT FROM (NEW.owner, NEW.labels)) EXECUTE FUNCTION forget_labels();
CREATE TRIGGER task_relabelled_to AFTER UPDATE OF owner, labels ON task FOR EACH ROW
    WHEN ((OLD.owner, OLD.labels) IS DISTINCT FROM (NEW.owner, NEW.labels)) EXECUTE FUNCTION index_labels();

INSERT INTO task_label (owner, digest, task_id)
SELECT owner, label_digest(key, value), id FROM task, jsonb_each_text(labels);
