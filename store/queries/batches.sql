-- name: put_file
-- Store a file whose content is a complete upload of its tenant; no row: the upload is gone.
INSERT INTO files (id, tenant, name, purpose, bytes, sha256, expires_at)
SELECT $1, $2, $3, $4, bytes, sha256, clock_timestamp() + make_interval(secs => $6)
FROM uploads WHERE tenant = $2 AND sha256 = $5 AND arrived
RETURNING id, tenant, name, purpose, bytes, sha256, created_at, expires_at

-- name: keep_upload
-- Record content that the system itself writes for a tenant, beyond the tenant's limits.
INSERT INTO uploads (tenant, sha256, bytes, arrived) VALUES ($1, $2, $3, true)
ON CONFLICT (tenant, sha256) DO UPDATE SET arrived = true, bytes = excluded.bytes, used_at = clock_timestamp()

-- name: list_files
-- Files that have not expired: one, or those of a purpose, newest or oldest first; optionally of a tenant.
SELECT id, tenant, name, purpose, bytes, sha256, created_at, expires_at FROM files
WHERE ($1::text IS NULL OR tenant = $1) AND ($2::text IS NULL OR id = $2) AND ($3::text IS NULL OR purpose = $3)
    AND ($4::text IS NULL OR CASE WHEN $5::boolean THEN id > $4 ELSE id < $4 END)
    AND expires_at > clock_timestamp()
ORDER BY CASE WHEN $5 THEN id END, id DESC LIMIT $6

-- name: delete_file
-- Delete a file that no batch reads.
DELETE FROM files WHERE id = $1 AND NOT EXISTS (SELECT FROM batches WHERE input_file = files.id AND ended_at IS NULL)
RETURNING id

-- name: expire_files
-- Delete files that have expired and that no batch reads.
DELETE FROM files WHERE expires_at < clock_timestamp()
    AND NOT EXISTS (SELECT FROM batches WHERE input_file = files.id AND ended_at IS NULL)

-- name: put_batch
-- Store a batch of an existing file; no row: there is no such file of this tenant. The file's content is kept for a day,
-- the longest window, even if its row expires at the same time.
WITH used AS (
    UPDATE uploads AS u SET used_at = clock_timestamp() FROM files AS f
    WHERE f.id = $4 AND u.tenant = f.tenant AND u.sha256 = f.sha256
)
INSERT INTO batches (id, tenant, caller, input_file, sha256, endpoint, completion_window, deadline_at, metadata)
SELECT $1, f.tenant, $3, f.id, f.sha256, $5, $6, clock_timestamp() + make_interval(secs => $7), $8
FROM files AS f WHERE f.id = $4 AND ($2::text IS NULL OR f.tenant = $2) AND f.expires_at > clock_timestamp() FOR SHARE
RETURNING id

-- name: list_batches
-- Batches, newest first: one, or those older than an id; optionally of a tenant, and of some tasks. While a batch runs,
-- the counts are those of its jobs. A batch is of these tasks if its creator may query no others, or if all its lines
-- are jobs and none is of another task: the lines of others may name any task.
SELECT
    b.id, b.tenant, b.caller, b.input_file, b.sha256, b.endpoint, b.completion_window, b.metadata, b.status, b.total,
    b.stored, b.position, b.errors, b.output_file, b.error_file, b.created_at, b.deadline_at, b.started_at,
    b.cancelled_at, b.finalized_at, b.ended_at,
    coalesce(j.completed, b.completed)::integer AS completed, coalesce(j.failed, b.failed)::integer AS failed,
    extract(epoch FROM b.deadline_at - clock_timestamp())::float8 AS left_s
FROM batches AS b LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'succeeded') AS completed, count(*) FILTER (WHERE state = 'failed') AS failed
    FROM jobs WHERE batch = b.id AND b.ended_at IS NULL HAVING b.ended_at IS NULL
) AS j ON true
WHERE ($1::text IS NULL OR b.tenant = $1) AND ($2::text IS NULL OR b.id = $2) AND ($3::text IS NULL OR b.id < $3)
    AND (
        $5::text[] IS NULL OR b.caller -> 'tasks' <@ to_jsonb($5::text[]) OR (
            b.total > 0 AND b.stored >= b.total AND EXISTS (SELECT FROM jobs WHERE batch = b.id)
            AND NOT EXISTS (SELECT FROM jobs WHERE batch = b.id AND task <> ALL ($5))
        )
    )
ORDER BY b.id DESC LIMIT $4

-- name: cancel_batch
-- Cancel a batch that has not ended.
UPDATE batches SET status = 'cancelling', cancelled_at = clock_timestamp()
WHERE id = $1 AND status IN ('validating', 'in_progress')

-- name: cancel_lines
-- Cancel the jobs of a batch that have not ended.
UPDATE jobs SET state = 'cancelled', request = NULL, finished_at = clock_timestamp()
WHERE batch = $1 AND state IN ('queued', 'running')

-- name: claim_batch
-- Lock a batch that can proceed: its file is to be validated, lines are to be stored, or all jobs of it have ended. The
-- batch that has waited the longest comes first.
SELECT
    id, tenant, caller, input_file, sha256, endpoint, completion_window, metadata, status, total, stored, position,
    completed, failed, errors, output_file, error_file, created_at, deadline_at, started_at, cancelled_at,
    finalized_at, ended_at, extract(epoch FROM deadline_at - clock_timestamp())::float8 AS left_s
FROM batches AS b
WHERE ended_at IS NULL AND (
    status = 'validating'
    OR (status = 'in_progress' AND stored < total AND deadline_at > clock_timestamp())
    OR NOT EXISTS (SELECT FROM jobs WHERE batch = b.id AND state IN ('queued', 'running'))
)
ORDER BY served_at LIMIT 1 FOR UPDATE SKIP LOCKED

-- name: pass_batch
-- Let other batches come first.
UPDATE batches SET served_at = clock_timestamp() WHERE id = $1

-- name: start_batch
-- Record that a file is valid.
UPDATE batches SET status = 'in_progress', total = $2, started_at = clock_timestamp() WHERE id = $1

-- name: fail_batch
-- End a batch whose file is invalid.
UPDATE batches SET status = 'failed', errors = $2, ended_at = clock_timestamp() WHERE id = $1

-- name: advance_batch
-- Record that lines are stored.
UPDATE batches SET stored = $2, position = $3, served_at = clock_timestamp() WHERE id = $1

-- name: end_batch
-- End a batch whose files are stored.
UPDATE batches SET
    status = $2, completed = $3, failed = $4, output_file = $5, error_file = $6,
    finalized_at = $7, ended_at = clock_timestamp()
WHERE id = $1

-- name: put_failed_lines
-- Store lines that are no valid queries, as ended jobs.
INSERT INTO jobs (
    id, model, task, state, offline, headers, request_bytes, finished_at, result_headers, result, batch, idempotency_key,
    fingerprint, line
)
SELECT n.id, n.model, n.model, 'failed', true, $7, 0, clock_timestamp(), n.headers, n.result, $8, n.key, '', n.line
FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::bytea[], $5::bytea[], $6::jsonb[])
    AS n (id, model, headers, result, key, line)
ON CONFLICT (idempotency_key) DO NOTHING

-- name: has_open_lines
-- True if a job of a batch has not ended. `claim_batch` may have seen fewer jobs than its locked row states.
SELECT EXISTS (SELECT FROM jobs WHERE batch = $1 AND state IN ('queued', 'running'))

-- name: known_keys
-- Idempotency keys of a batch's jobs, of those given.
SELECT array_agg(idempotency_key) FROM jobs WHERE batch = $1 AND idempotency_key = ANY ($2::bytea[])

-- name: line_results
-- Ended jobs of a batch after an id: at least one, and more while their results stay within some bytes.
WITH page AS (
    SELECT id, state, line, result_headers, result FROM jobs WHERE batch = $1 AND id > $2 ORDER BY id LIMIT $3
), sized AS (
    SELECT *, sum(coalesce(octet_length(result), 0)) OVER place AS bytes, row_number() OVER place AS number
    FROM page WINDOW place AS (ORDER BY id)
)
SELECT id, state, line, result_headers, result FROM sized WHERE number = 1 OR bytes <= $4 ORDER BY id

-- name: prune_batches
-- Delete batches that ended long ago.
DELETE FROM batches WHERE ended_at < clock_timestamp() - make_interval(secs => $1)
