-- name: put_removal
-- Store a requested removal, or return the open one of the same name and actor.
WITH old AS (
    DELETE FROM removals WHERE ended_at < clock_timestamp() - interval '30 days'
)
INSERT INTO removals (name, request, principal, actor, origin) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name, actor) WHERE state IN ('waiting', 'running') DO UPDATE SET name = excluded.name
RETURNING *

-- name: get_removal
-- A removal.
SELECT * FROM removals WHERE id = $1

-- name: claim_removal
-- Claim the oldest removal that waits, or whose gateway has sent no heartbeat for too long.
UPDATE removals SET state = 'running', attempts = attempts + 1, beat_at = clock_timestamp()
WHERE id = (
    SELECT id FROM removals
    WHERE state = 'waiting' OR (state = 'running' AND beat_at < clock_timestamp() - make_interval(secs => $1))
    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING *

-- name: count_running
-- Number of removals that are marked as running, also by gateways that have ended.
SELECT count(*) FROM removals WHERE state = 'running'

-- name: beat_removal
-- Store the heartbeat and progress of a removal.
UPDATE removals SET beat_at = clock_timestamp(), done = $3, total = $4, step = $5
WHERE id = $1 AND attempts = $2 AND state = 'running'

-- name: end_removal
-- Store the outcome of a removal, unless another gateway has claimed it.
UPDATE removals SET
    state = $3, error = $4, report = $5, ended_at = clock_timestamp(),
    done = CASE WHEN $3 = 'done' THEN total ELSE done END, step = CASE WHEN $3 = 'done' THEN '' ELSE step END
WHERE id = $1 AND attempts = $2 AND state = 'running'

-- name: release_removal
-- Release a removal for another gateway. A released attempt does not count.
UPDATE removals SET state = 'waiting', beat_at = NULL, attempts = attempts - 1
WHERE id = $1 AND attempts = $2 AND state = 'running'
