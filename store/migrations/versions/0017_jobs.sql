-- Queries that outlive their request. Jobs remain after their task is deleted, so there is no foreign key.
CREATE TABLE jobs (
    -- Begins with the creation time, so that byte order is chronological order.
    id text COLLATE "C" PRIMARY KEY,
    batch text COLLATE "C",
    model text NOT NULL,
    task text NOT NULL,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    offline boolean NOT NULL,
    headers jsonb NOT NULL,
    -- Deleted when the job ends.
    request bytea,
    request_bytes integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deadline_at timestamptz,
    -- Earliest time of the next attempt to send it.
    send_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    finished_at timestamptz,
    result_headers jsonb,
    -- Deleted some time before the row.
    result bytea,
    idempotency_key bytea UNIQUE,
    fingerprint bytea NOT NULL,
    webhook text,
    reply_to text,
    notice text CHECK (notice IN ('waiting', 'delivered', 'failed')),
    notice_at timestamptz,
    notice_attempts integer NOT NULL DEFAULT 0,
    notice_error text NOT NULL DEFAULT '',
    CHECK (webhook IS NULL OR reply_to IS NULL),
    CHECK ((request IS NOT NULL) = (state IN ('queued', 'running'))),
    CHECK ((finished_at IS NULL) = (state IN ('queued', 'running')))
)


CREATE INDEX jobs_of_model ON jobs (model, id)


CREATE INDEX jobs_of_batch ON jobs (batch, id) WHERE batch IS NOT NULL


CREATE INDEX jobs_to_send ON jobs (send_at) WHERE state = 'queued'


CREATE INDEX jobs_unfinished ON jobs (task) INCLUDE (request_bytes) WHERE state IN ('queued', 'running')


CREATE INDEX jobs_with_deadline ON jobs (deadline_at) WHERE state IN ('queued', 'running') AND deadline_at IS NOT NULL


CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL


CREATE INDEX jobs_with_result ON jobs (finished_at) WHERE result IS NOT NULL


CREATE INDEX jobs_to_tell ON jobs (notice_at) WHERE notice = 'waiting'


CREATE TRIGGER notify AFTER INSERT ON jobs FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_jobs')
