-- name: put_build
-- Put a step down that somebody asks for; asked for anew, one that has ended is to be done again. Older requests change nothing.
INSERT INTO builds AS b (id, hardware, step, asked_ms) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET
    asked_ms = excluded.asked_ms, step = excluded.step, outcome = NULL,
    attempts = CASE WHEN b.outcome IS NULL THEN b.attempts ELSE 0 END,
    worker = CASE WHEN b.outcome IS NULL THEN b.worker ELSE '' END,
    reason = CASE WHEN b.outcome IS NULL THEN b.reason ELSE '' END
    WHERE b.asked_ms < excluded.asked_ms

-- name: claim_build
-- The oldest step that nobody does: never begun, given back, of an earlier life, or of a worker that is silent.
UPDATE builds SET worker = $2, attempts = attempts + 1, changed_at = clock_timestamp()
WHERE id = (
    SELECT id FROM builds
    WHERE hardware = $1 AND outcome IS NULL
        AND (worker IN ('', $2) OR changed_at < clock_timestamp() - make_interval(secs => $3))
    ORDER BY created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, hardware, step, asked_ms, attempts, worker, reason, outcome

-- name: renew_build
-- A worker is still at a step. No row: another has it, or it has ended.
UPDATE builds SET changed_at = clock_timestamp() WHERE id = $1 AND worker = $2 AND outcome IS NULL

-- name: release_build
-- A worker gives a step back, and says how its attempt ended; it counts unless it was only interrupted.
UPDATE builds SET worker = '', reason = CASE WHEN $3 = '' THEN reason ELSE $3 END,
    attempts = attempts - CASE WHEN $3 = '' THEN 1 ELSE 0 END
WHERE id = $1 AND worker = $2 AND outcome IS NULL

-- name: finish_build
-- The first outcome stays, should two workers have done the step.
UPDATE builds SET outcome = $2, changed_at = clock_timestamp() WHERE id = $1 AND outcome IS NULL

-- name: get_build
-- What is known of a step.
SELECT id, hardware, step, asked_ms, attempts, worker, reason, outcome
FROM builds WHERE id = $1

-- name: count_open_builds
-- How many steps for a hardware type have not ended.
SELECT count(*) FROM builds WHERE hardware = $1 AND outcome IS NULL

-- name: forget_builds
-- Steps that nobody has asked for or done for so long are forgotten.
DELETE FROM builds
WHERE greatest(changed_at, to_timestamp(asked_ms / 1000.0)) < clock_timestamp() - make_interval(secs => $1)
