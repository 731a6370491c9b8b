-- Registrations through the admin API: kept until they are done, whatever is killed.
CREATE TABLE registrations (
    id text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL,
    name text NOT NULL,
    -- Empty: nobody's.
    tenant text NOT NULL,
    -- Whether it is that tenant alone that registers, and no administrator.
    publisher boolean NOT NULL,
    asked_by text NOT NULL,
    origin text NOT NULL,
    request jsonb NOT NULL,
    uploads text[] NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    steps_done integer NOT NULL DEFAULT 0,
    steps_total integer NOT NULL DEFAULT 0,
    doing text NOT NULL DEFAULT '',
    notes jsonb NOT NULL DEFAULT '[]',
    error text NOT NULL DEFAULT '',
    -- Of the error table; empty: it is not what was asked for that is wrong.
    error_code text NOT NULL DEFAULT '',
    made jsonb NOT NULL DEFAULT '[]',
    worker text NOT NULL DEFAULT '',
    -- Grows with each claim, so that what an earlier one still writes is refused.
    epoch integer NOT NULL DEFAULT 0,
    -- Times that it was begun, and those that ended by themselves without an outcome, the last for this reason.
    attempts integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    CHECK ((finished_at IS NOT NULL) = (state IN ('done', 'failed', 'cancelled')))
)


CREATE INDEX registrations_open ON registrations (tenant, created_at) WHERE finished_at IS NULL


CREATE TRIGGER notify AFTER INSERT OR UPDATE OF state ON registrations
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_registrations')


-- What was uploaded for them, by tenant: nobody learns what others have, nor has it without sending it.
CREATE TABLE uploads (
    tenant text NOT NULL,
    sha256 text COLLATE "C" NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    bytes bigint NOT NULL CHECK (bytes >= 0),
    arrived boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, sha256)
)


CREATE INDEX uploads_used ON uploads (used_at)
