-- name: put_build
-- Store a requested step. A newer request resets a step that has ended; an older request changes nothing.
INSERT INTO builds AS b (id, hardware, step, asked_ms) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET
    asked_ms = excluded.asked_ms, step = excluded.step, outcome = NULL,
    state = CASE WHEN b.outcome IS NULL THEN b.state ELSE 'waiting' END,
    attempts = CASE WHEN b.outcome IS NULL THEN b.attempts ELSE 0 END,
    worker = CASE WHEN b.outcome IS NULL THEN b.worker ELSE '' END,
    reason = CASE WHEN b.outcome IS NULL THEN b.reason ELSE '' END
    WHERE b.asked_ms < excluded.asked_ms

-- name: claimable
-- Open steps of a hardware type: new, released, held by an earlier process of this worker, or by a silent worker;
-- oldest first.
SELECT r.id FROM builds AS r
WHERE r.hardware = $3 AND r.outcome IS NULL
    AND (r.state = 'waiting' OR r.worker = $1 OR r.changed_at < clock_timestamp() - make_interval(secs => $2))
ORDER BY r.created_at, r.id

-- name: finish_build
-- Store the outcome of a step. If two workers executed it, the first outcome is kept.
UPDATE builds SET state = 'done', outcome = $2, changed_at = clock_timestamp() WHERE id = $1 AND outcome IS NULL

-- name: get_build
-- A step with its state.
SELECT id, hardware, step, asked_ms, epoch, attempts, worker, reason, outcome
FROM builds WHERE id = $1

-- name: count_open_builds
-- Number of steps for a hardware type that have not ended.
SELECT count(*) FROM builds WHERE hardware = $1 AND outcome IS NULL

-- name: forget_builds
-- Delete steps without a request or change for some time.
DELETE FROM builds
WHERE greatest(changed_at, to_timestamp(asked_ms / 1000.0)) < clock_timestamp() - make_interval(secs => $1)
