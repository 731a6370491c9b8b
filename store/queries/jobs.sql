-- name: put_jobs
-- Keep jobs that are asked for, but for those whose key is kept already. Returns those that are new.
INSERT INTO jobs (
    id, model, task, offline, headers, request, request_bytes, deadline_at,
    batch, idempotency_key, fingerprint, webhook, reply_to
)
SELECT
    n.id, n.model, n.task, n.offline, n.headers, n.request, octet_length(n.request),
    clock_timestamp() + make_interval(secs => n.deadline_s),
    n.batch, n.idempotency_key, n.fingerprint, n.webhook, n.reply_to
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::boolean[], $5::jsonb[], $6::bytea[], $7::float8[],
    $8::text[], $9::bytea[], $10::bytea[], $11::text[], $12::text[]
) AS n (
    id, model, task, offline, headers, request, deadline_s,
    batch, idempotency_key, fingerprint, webhook, reply_to
)
ON CONFLICT (idempotency_key) DO NOTHING
RETURNING id

-- name: kept_jobs
-- Which jobs are kept under these keys.
SELECT id, idempotency_key, fingerprint FROM jobs WHERE idempotency_key = ANY ($1::bytea[])

-- name: take_back
-- Keep jobs not after all, in the transaction that has put them.
DELETE FROM jobs WHERE id = ANY ($1::text[])

-- name: backlog
-- How many jobs have not ended, and the bytes of their requests.
SELECT count(*) AS jobs, coalesce(sum(request_bytes), 0)::bigint AS bytes
FROM jobs WHERE state IN ('queued', 'running')

-- name: list_jobs
-- Jobs, the latest first, of a model, in a state, of a batch, of these ids, of a tenant, or of these tasks; those
-- before an id, if one is given.
SELECT
    id, batch, model, task, state, offline, created_at, deadline_at, sent_at, finished_at, attempts, result_headers,
    CASE WHEN state = 'failed' THEN result END AS error, result IS NOT NULL AS has_result,
    webhook, reply_to, notice, notice_attempts, notice_error
FROM jobs
WHERE ($1::text IS NULL OR model = $1) AND ($2::text IS NULL OR state = $2) AND ($3::text IS NULL OR batch = $3)
    AND ($4::text IS NULL OR id < $4) AND ($5::text[] IS NULL OR id = ANY ($5))
    AND ($6::text IS NULL OR tenant = $6) AND ($8::text[] IS NULL OR task = ANY ($8))
ORDER BY id DESC
LIMIT $7

-- name: cancel_jobs
-- Cancel those of these jobs that have not ended.
UPDATE jobs SET
    state = 'cancelled', request = NULL, finished_at = clock_timestamp(), notice_at = clock_timestamp(),
    notice = CASE WHEN webhook IS NOT NULL THEN 'waiting' END
WHERE id = ANY ($1::text[]) AND state IN ('queued', 'running')
RETURNING id

-- name: claim_due
-- Jobs to send now, which nobody else is sending: they are locked until the transaction ends.
SELECT id, request_bytes FROM jobs WHERE state = 'queued' AND send_at <= clock_timestamp()
ORDER BY send_at LIMIT $1 FOR UPDATE SKIP LOCKED

-- name: read_due
-- What is sent of jobs that were claimed.
SELECT
    id, task, offline, headers, request,
    (extract(epoch FROM deadline_at - clock_timestamp()) * 1000)::float8 AS left_ms
FROM jobs WHERE id = ANY ($1::text[]) ORDER BY id

-- name: mark_sent
-- Note that jobs are on their way.
UPDATE jobs SET state = 'running', sent_at = clock_timestamp(), attempts = attempts + 1
WHERE id = ANY ($1::text[]) AND state = 'queued'

-- name: postpone
-- Send jobs not now but in a while.
UPDATE jobs SET send_at = clock_timestamp() + make_interval(secs => $2) WHERE id = ANY ($1::text[]) AND state = 'queued'

-- name: end_jobs
-- Write how jobs ended, but for those that have ended before, and for results that do not have the correlation of the
-- job's query: those were not made of it. Returns those that ended now.
UPDATE jobs SET
    state = n.state, request = NULL, finished_at = clock_timestamp(), result_headers = n.headers, result = n.value,
    notice_at = clock_timestamp(), notice = CASE WHEN coalesce(webhook, reply_to) IS NOT NULL THEN 'waiting' END
FROM (
    SELECT DISTINCT ON (said.id) said.id, said.state, said.headers, said.value
    FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::bytea[], $5::text[])
        WITH ORDINALITY AS said (id, state, headers, value, correlation, place)
    JOIN jobs ON jobs.id = said.id
    WHERE said.correlation IS NULL OR said.correlation = coalesce(jobs.headers ->> 'infaas-correlation', '')
    ORDER BY said.id, said.place
) AS n
WHERE jobs.id = n.id AND jobs.state IN ('queued', 'running')
RETURNING jobs.id

-- name: send_again
-- Have jobs on their way sent once more, later each time, unless they were too often or have no time left for it, or the
-- result that asks for it does not have the correlation of the job's query. Those that are to be sent already are
-- returned, too. An answer may be quicker than the note that its query was sent:
-- the lock waits for that.
WITH known AS (
    SELECT jobs.id, state, attempts, deadline_at, $3 * 2 ^ least(attempts - 1, 10) AS pause_s
    FROM jobs JOIN unnest($1::text[], $4::text[]) AS n (id, correlation) ON jobs.id = n.id
    WHERE n.correlation IS NULL OR n.correlation = coalesce(jobs.headers ->> 'infaas-correlation', '')
    ORDER BY jobs.id FOR UPDATE OF jobs
), again AS (
    UPDATE jobs SET state = 'queued', send_at = clock_timestamp() + make_interval(secs => known.pause_s)
    FROM known
    WHERE jobs.id = known.id AND known.state = 'running' AND known.attempts < $2
        AND (known.deadline_at IS NULL OR known.deadline_at > clock_timestamp() + make_interval(secs => known.pause_s))
    RETURNING jobs.id
)
SELECT id FROM again UNION SELECT id FROM known WHERE state = 'queued'

-- name: expired_jobs
-- Jobs whose deadline passed a while ago.
SELECT id FROM jobs
WHERE state IN ('queued', 'running') AND deadline_at < clock_timestamp() - make_interval(secs => $1) LIMIT $2

-- name: tasks_gone
-- Tasks of jobs that have not ended which are registered no longer.
SELECT DISTINCT task FROM jobs WHERE state IN ('queued', 'running') AND task NOT IN (SELECT name FROM tasks)

-- name: jobs_of_task
-- Jobs of a task that have not ended.
SELECT id FROM jobs WHERE state IN ('queued', 'running') AND task = $1 LIMIT $2

-- name: lost_jobs
-- Jobs on their way for so long of whose task nothing was left in Kafka when its lag was last read, nor any result.
WITH waiting AS (
    SELECT DISTINCT task FROM jobs
    WHERE state = 'running' AND sent_at < clock_timestamp() - make_interval(secs => $1)
), reading AS (
    SELECT * FROM current_lag WHERE EXISTS (SELECT FROM waiting)
), busy AS (
    SELECT split_part(substr(topic, length($3) + 1), '.', 1) AS task FROM reading
    WHERE starts_with(topic, $3) AND lag IS DISTINCT FROM 0
    UNION
    SELECT v.task FROM reading JOIN variants AS v ON topic IN ($4 || v.name, $4 || v.name || '.offline')
    WHERE lag IS DISTINCT FROM 0
)
SELECT id FROM jobs
WHERE state = 'running' AND task NOT IN (SELECT task FROM busy)
    AND sent_at < (SELECT min(at) FROM reading) - make_interval(secs => $1)
    AND (SELECT min(at) FROM reading) > clock_timestamp() - interval '10 seconds'
    AND NOT EXISTS (SELECT FROM reading WHERE topic = $5 AND lag IS DISTINCT FROM 0)
LIMIT $2

-- name: prune_results
-- Take away results that were kept for long enough.
UPDATE jobs SET result = NULL WHERE id IN (
    SELECT id FROM jobs WHERE finished_at < clock_timestamp() - make_interval(secs => $1) AND result IS NOT NULL
    LIMIT $2 FOR UPDATE SKIP LOCKED
)

-- name: prune_jobs
-- Forget jobs that ended long ago.
DELETE FROM jobs WHERE id IN (
    SELECT id FROM jobs WHERE finished_at < clock_timestamp() - make_interval(secs => $1) LIMIT $2 FOR UPDATE SKIP LOCKED
)

-- name: claim_notices
-- Take over notices that are due for so many seconds, after which others may: whoever has them may have been killed.
UPDATE jobs SET notice_at = clock_timestamp() + make_interval(secs => $2)
WHERE id IN (
    SELECT id FROM jobs WHERE notice = 'waiting' AND notice_at <= clock_timestamp()
    ORDER BY notice_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING id

-- name: read_results
-- The results of jobs, as far as there are any; of a tenant's, if one is given.
SELECT id, model, state, result_headers, result FROM jobs
WHERE id = ANY ($1::text[]) AND ($2::text IS NULL OR tenant = $2)

-- name: note_notice
-- Note how the delivery of a notice ended, and when to try again.
UPDATE jobs SET notice = $2, notice_error = $3, notice_at = clock_timestamp() + make_interval(secs => $4),
    notice_attempts = $5
WHERE id = $1
