-- name: put_jobs
-- Store new jobs, except those whose idempotency key is stored already; return the stored ones.
INSERT INTO jobs (
    id, model, task, offline, headers, request, request_bytes, deadline_at,
    batch, idempotency_key, fingerprint, webhook, reply_to, line
)
SELECT
    n.id, n.model, n.task, n.offline, n.headers, n.request, octet_length(n.request),
    clock_timestamp() + make_interval(secs => n.deadline_s),
    n.batch, n.idempotency_key, n.fingerprint, n.webhook, n.reply_to, n.line
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::boolean[], $5::jsonb[], $6::bytea[], $7::float8[],
    $8::text[], $9::bytea[], $10::bytea[], $11::text[], $12::text[], $13::jsonb[]
) AS n (
    id, model, task, offline, headers, request, deadline_s,
    batch, idempotency_key, fingerprint, webhook, reply_to, line
)
ON CONFLICT (idempotency_key) DO NOTHING
RETURNING id

-- name: earlier_jobs
-- Jobs that are stored under these idempotency keys.
SELECT id, idempotency_key, fingerprint FROM jobs WHERE idempotency_key = ANY ($1::bytea[])

-- name: rollback
-- Delete jobs again in the transaction that stored them.
DELETE FROM jobs WHERE id = ANY ($1::text[])

-- name: backlog
-- Number of jobs that have not ended, and the bytes of their requests.
SELECT count(*) AS jobs, coalesce(sum(request_bytes), 0)::bigint AS bytes
FROM jobs WHERE state IN ('queued', 'running')

-- name: dated_work
-- Offline work whose deadline passes within some seconds, by task and minute of the deadline: at most the $2 most urgent
-- jobs, and lines that the $3 most urgent batches have not stored yet. Lines are of the tasks of the last $4 jobs of
-- their batch, and as many as the rate of its creator allows. The stable time of the statement lets an index serve the
-- range.
WITH urgent AS (
    SELECT task, deadline_at, state FROM jobs
    WHERE state IN ('queued', 'running') AND offline AND deadline_at > statement_timestamp()
        AND deadline_at < statement_timestamp() + make_interval(secs => $1)
    ORDER BY deadline_at LIMIT $2
), entering AS (
    SELECT
        id, deadline_at,
        least(
            total - stored,
            (caller #>> '{quota,per_second}')::float8 * extract(epoch FROM deadline_at - statement_timestamp())
        )::float8 AS lines
    FROM batches
    WHERE ended_at IS NULL AND status = 'in_progress' AND stored < total AND deadline_at > statement_timestamp()
        AND deadline_at < statement_timestamp() + make_interval(secs => $1)
    ORDER BY deadline_at LIMIT $3
), work AS (
    SELECT task, deadline_at, (state = 'running')::int AS sent, (state = 'queued')::int::float8 AS unsent FROM urgent
    UNION ALL
    SELECT shares.task, deadline_at, 0, lines * shares.share
    FROM entering CROSS JOIN LATERAL (
        SELECT task, (count(*) / sum(count(*)) OVER ())::float8 AS share
        FROM (SELECT task FROM jobs WHERE batch = entering.id ORDER BY id DESC LIMIT $4) AS latest GROUP BY task
    ) AS shares
)
SELECT
    task, extract(epoch FROM min(deadline_at) - statement_timestamp())::float8 AS left_s,
    sum(sent)::int AS sent, sum(unsent)::float8 AS unsent
FROM work GROUP BY task, date_trunc('minute', deadline_at) ORDER BY task, left_s

-- name: list_jobs
-- Jobs, newest first, filtered by model, state, batch, ids, tenant and tasks, and optionally older than an id.
SELECT
    id, batch, model, task, state, CASE WHEN offline THEN 'offline' ELSE 'online' END AS mode,
    created_at, deadline_at, sent_at, finished_at, attempts,
    CASE WHEN coalesce(webhook, reply_to) IS NOT NULL THEN jsonb_build_object(
        'to', coalesce(webhook, reply_to), 'state', coalesce(notice, 'waiting'),
        'attempts', notice_attempts, 'error', notice_error
    ) END AS notice,
    result IS NOT NULL AS has_result, result_headers, CASE WHEN state = 'failed' THEN result END AS error_value
FROM jobs
WHERE ($1::text IS NULL OR model = $1) AND ($2::text IS NULL OR state = $2) AND ($3::text IS NULL OR batch = $3)
    AND ($4::text IS NULL OR id < $4) AND ($5::text[] IS NULL OR id = ANY ($5))
    AND ($6::text IS NULL OR tenant = $6) AND ($8::text[] IS NULL OR task = ANY ($8))
ORDER BY id DESC
LIMIT $7

-- name: job_progress
-- Number of jobs in each state by model and batch, the latest first, with the rate at which they ended in the last
-- minute, filtered by tenant and tasks.
SELECT
    model, batch, min(created_at) AS created_at,
    count(*) FILTER (WHERE state = 'queued')::int AS queued, count(*) FILTER (WHERE state = 'running')::int AS running,
    count(*) FILTER (WHERE state = 'succeeded')::int AS succeeded, count(*) FILTER (WHERE state = 'failed')::int AS failed,
    count(*) FILTER (WHERE state = 'cancelled')::int AS cancelled,
    (count(*) FILTER (WHERE finished_at > clock_timestamp() - interval '1 minute') / 60.0)::float8 AS ended_per_s
FROM jobs WHERE ($1::text IS NULL OR tenant = $1) AND ($2::text[] IS NULL OR task = ANY ($2))
GROUP BY model, batch ORDER BY max(id) DESC LIMIT $3

-- name: cancel_jobs
-- Cancel those of these jobs that have not ended.
UPDATE jobs SET
    state = 'cancelled', request = NULL, finished_at = clock_timestamp(), notice_at = clock_timestamp(),
    notice = CASE WHEN webhook IS NOT NULL THEN 'waiting' END
WHERE id = ANY ($1::text[]) AND state IN ('queued', 'running')
RETURNING id

-- name: claim_due
-- Claim due jobs that no other service is sending, oldest first: the first one, and more while the bytes of their
-- requests stay within a maximum. The rows stay locked until the transaction ends.
WITH due AS (
    SELECT id, task, offline, headers, request, request_bytes, deadline_at, send_at
    FROM jobs WHERE state = 'queued' AND send_at <= clock_timestamp()
    ORDER BY send_at LIMIT $1 FOR UPDATE SKIP LOCKED
), sized AS (
    SELECT *, sum(request_bytes) OVER place AS bytes, row_number() OVER place AS number
    FROM due WINDOW place AS (ORDER BY send_at, id)
)
SELECT
    id, task, offline, headers, request,
    (extract(epoch FROM deadline_at - clock_timestamp()) * 1000)::float8 AS left_ms
FROM sized WHERE number = 1 OR bytes <= $2 ORDER BY id

-- name: mark_sent
-- Mark jobs as sent.
UPDATE jobs SET state = 'running', sent_at = clock_timestamp(), attempts = attempts + 1
WHERE id = ANY ($1::text[]) AND state = 'queued'

-- name: postpone
-- Postpone the sending of jobs.
UPDATE jobs SET send_at = clock_timestamp() + make_interval(secs => $2) WHERE id = ANY ($1::text[]) AND state = 'queued'

-- name: end_jobs
-- Store the ends of jobs that have not ended before; return those that ended now. A result whose correlation differs
-- from that of the job's query is ignored, because it does not belong to that query.
UPDATE jobs SET
    state = n.state, request = NULL, finished_at = clock_timestamp(), result_headers = n.headers, result = n.value,
    notice_at = clock_timestamp(), notice = CASE WHEN coalesce(webhook, reply_to) IS NOT NULL THEN 'waiting' END
FROM (
    SELECT DISTINCT ON (given.id) given.id, given.state, given.headers, given.value
    FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::bytea[], $5::text[])
        WITH ORDINALITY AS given (id, state, headers, value, correlation, place)
    JOIN jobs ON jobs.id = given.id
    WHERE given.correlation IS NULL OR given.correlation = coalesce(jobs.headers ->> 'infaas-correlation', '')
    ORDER BY given.id, given.place
) AS n
WHERE jobs.id = n.id AND jobs.state IN ('queued', 'running')
RETURNING jobs.id

-- name: retry_jobs
-- Send running jobs again after a pause that doubles with each attempt; return them and the jobs that are queued
-- already. Left out are jobs without attempts left, jobs whose deadline would pass during the pause, and jobs whose
-- correlation differs from that of the result that causes the retry. A result may arrive before its query is marked as
-- sent: the row lock waits for that mark.
WITH known AS (
    SELECT jobs.id, state, attempts, deadline_at, $3 * 2 ^ least(attempts - 1, 10) AS pause_s
    FROM jobs JOIN unnest($1::text[], $4::text[]) AS n (id, correlation) ON jobs.id = n.id
    WHERE n.correlation IS NULL OR n.correlation = coalesce(jobs.headers ->> 'infaas-correlation', '')
    ORDER BY jobs.id FOR UPDATE OF jobs
), retried AS (
    UPDATE jobs SET state = 'queued', send_at = clock_timestamp() + make_interval(secs => known.pause_s)
    FROM known
    WHERE jobs.id = known.id AND known.state = 'running' AND known.attempts < $2
        AND (known.deadline_at IS NULL OR known.deadline_at > clock_timestamp() + make_interval(secs => known.pause_s))
    RETURNING jobs.id
)
SELECT id FROM retried UNION SELECT id FROM known WHERE state = 'queued'

-- name: expired_jobs
-- Jobs whose deadline passed some time ago.
SELECT id FROM jobs
WHERE state IN ('queued', 'running') AND deadline_at < clock_timestamp() - make_interval(secs => $1) LIMIT $2

-- name: unregistered_tasks
-- Tasks that are no longer registered but have jobs that have not ended.
SELECT DISTINCT task FROM jobs WHERE state IN ('queued', 'running') AND task NOT IN (SELECT name FROM tasks)

-- name: jobs_of_task
-- Jobs of a task that have not ended.
SELECT id FROM jobs WHERE state IN ('queued', 'running') AND task = $1 LIMIT $2

-- name: lost_jobs
-- Jobs sent some time ago, if at the last lag reading Kafka held no record of their task and no unread job result.
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
-- Delete results whose retention time is over, and that no batch will write to a file.
UPDATE jobs SET result = NULL WHERE id IN (
    SELECT id FROM jobs WHERE finished_at < clock_timestamp() - make_interval(secs => $1) AND result IS NOT NULL
        AND NOT EXISTS (SELECT FROM batches WHERE id = jobs.batch AND ended_at IS NULL)
    LIMIT $2 FOR UPDATE SKIP LOCKED
)

-- name: prune_jobs
-- Delete jobs that ended long ago, and that no batch will write to a file.
DELETE FROM jobs WHERE id IN (
    SELECT id FROM jobs WHERE finished_at < clock_timestamp() - make_interval(secs => $1)
        AND NOT EXISTS (SELECT FROM batches WHERE id = jobs.batch AND ended_at IS NULL)
    LIMIT $2 FOR UPDATE SKIP LOCKED
)

-- name: claim_notices
-- Claim due notices for some seconds; then other services may claim them, because the claiming service may have died.
-- The result is read only for a reply topic. The trace context is that of the result, else that of the job's query.
UPDATE jobs SET notice_at = clock_timestamp() + make_interval(secs => $2)
WHERE id IN (
    SELECT id FROM jobs WHERE notice = 'waiting' AND notice_at <= clock_timestamp()
    ORDER BY notice_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING
    id, webhook, reply_to, notice_attempts, result_headers, CASE WHEN reply_to IS NOT NULL THEN result END AS result,
    jsonb_strip_nulls(jsonb_build_object(
        'traceparent', coalesce(result_headers ->> 'traceparent', headers ->> 'traceparent'),
        'tracestate', coalesce(result_headers ->> 'tracestate', headers ->> 'tracestate')
    )) AS trace

-- name: read_result
-- Result of a job if available, optionally only if it belongs to a tenant.
SELECT id, model, state, result_headers, result FROM jobs WHERE id = $1 AND ($2::text IS NULL OR tenant = $2)

-- name: record_notice
-- Store the outcome of a delivery attempt, and the time of the next one.
UPDATE jobs SET notice = $2, notice_error = $3, notice_at = clock_timestamp() + make_interval(secs => $4),
    notice_attempts = $5
WHERE id = $1
