-- Each version is a separate architecture with its own variants; all versions share the name of their model.
ALTER TABLE architectures
    ADD COLUMN model text,
    ADD COLUMN version integer NOT NULL DEFAULT 1 CHECK (version > 0)


UPDATE architectures SET model = name


ALTER TABLE architectures
    ALTER COLUMN model SET NOT NULL,
    ADD CONSTRAINT version_exists UNIQUE (model, version)


-- Roles of a model's versions in one row, so that a rollback changes a single row.
CREATE TABLE rollouts (
    model text PRIMARY KEY,
    serving integer NOT NULL,
    previous integer CHECK (previous <> serving),
    candidate integer CHECK (candidate <> serving),
    share double precision NOT NULL DEFAULT 0 CHECK (share BETWEEN 0 AND 1),
    shadow double precision NOT NULL DEFAULT 0 CHECK (shadow BETWEEN 0 AND 1),
    changed_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (model, serving) REFERENCES architectures (model, version) ON DELETE CASCADE,
    CHECK (candidate IS NOT NULL OR (share = 0 AND shadow = 0))
)


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON rollouts
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'model')


CREATE TABLE version_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    model text NOT NULL,
    version integer NOT NULL,
    kind text NOT NULL,
    detail text NOT NULL DEFAULT '',
    by text NOT NULL DEFAULT ''
)


CREATE INDEX version_events_of_model ON version_events (model, id)


-- A deleted version loses its roles; a deleted candidate ends its trial.
CREATE FUNCTION forget_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE rollouts SET candidate = NULL, share = 0, shadow = 0 WHERE model = OLD.model AND candidate = OLD.version;
    UPDATE rollouts SET previous = NULL WHERE model = OLD.model AND previous = OLD.version;
    IF NOT EXISTS (SELECT FROM architectures WHERE model = OLD.model) THEN
        DELETE FROM version_events WHERE model = OLD.model;
    END IF;
    RETURN NULL;
END $$


CREATE TRIGGER forget_version AFTER DELETE ON architectures FOR EACH ROW EXECUTE FUNCTION forget_version()
