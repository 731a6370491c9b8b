-- name: put_build
-- Store a requested step. A newer request resets a step that has ended; an older request changes nothing.
INSERT INTO builds AS b (id, hardware, step, asked_ms) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET
    asked_ms = excluded.asked_ms, step = excluded.step, outcome = NULL,
    attempts = CASE WHEN b.outcome IS NULL THEN b.attempts ELSE 0 END,
    worker = CASE WHEN b.outcome IS NULL THEN b.worker ELSE '' END,
    reason = CASE WHEN b.outcome IS NULL THEN b.reason ELSE '' END
    WHERE b.asked_ms < excluded.asked_ms

-- name: claim_build
-- Claim the oldest open step: new, released, held by an earlier process of this worker, or by a silent worker.
UPDATE builds SET worker = $2, attempts = attempts + 1, changed_at = clock_timestamp()
WHERE id = (
    SELECT id FROM builds
    WHERE hardware = $1 AND outcome IS NULL
        AND (worker IN ('', $2) OR changed_at < clock_timestamp() - make_interval(secs => $3))
    ORDER BY created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, hardware, step, asked_ms, attempts, worker, reason, outcome

-- name: renew_build
-- Renew a worker's claim. No row: another worker holds the step, or it has ended.
UPDATE builds SET changed_at = clock_timestamp() WHERE id = $1 AND worker = $2 AND outcome IS NULL

-- name: release_build
-- Release a step with the reason for the end of the attempt; an interruption (no reason) does not count as an attempt.
UPDATE builds SET worker = '', reason = CASE WHEN $3 = '' THEN reason ELSE $3 END,
    attempts = attempts - CASE WHEN $3 = '' THEN 1 ELSE 0 END
WHERE id = $1 AND worker = $2 AND outcome IS NULL

-- name: finish_build
-- Store the outcome of a step. If two workers executed it, the first outcome is kept.
UPDATE builds SET outcome = $2, changed_at = clock_timestamp() WHERE id = $1 AND outcome IS NULL

-- name: get_build
-- A step with its state.
SELECT id, hardware, step, asked_ms, attempts, worker, reason, outcome
FROM builds WHERE id = $1

-- name: count_open_builds
-- Number of steps for a hardware type that have not ended.
SELECT count(*) FROM builds WHERE hardware = $1 AND outcome IS NULL

-- name: forget_builds
-- Delete steps without a request or change for some time.
DELETE FROM builds
WHERE greatest(changed_at, to_timestamp(asked_ms / 1000.0)) < clock_timestamp() - make_interval(secs => $1)
