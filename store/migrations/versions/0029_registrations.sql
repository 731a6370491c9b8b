-- Registrations through the admin API; they are kept until they end, and survive crashes.
CREATE TABLE registrations (
    id text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL,
    name text NOT NULL,
    -- Empty: no tenant.
    tenant text NOT NULL,
    -- True if the caller acts for that tenant and is not an administrator.
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
    -- Code of the error table; empty: the request itself was valid.
    error_code text NOT NULL DEFAULT '',
    made jsonb NOT NULL DEFAULT '[]',
    worker text NOT NULL DEFAULT '',
    -- Incremented by each claim; writes with an earlier epoch are ignored.
    epoch integer NOT NULL DEFAULT 0,
    -- Number of attempts, number of attempts that ended without an outcome, and the reason of the last of those.
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


-- Uploaded files by tenant: a tenant must send a file to have it, and cannot learn which files other tenants have.
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
