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

-- name: claimable
-- Removals that wait, or whose gateway is silent, oldest first.
SELECT r.id FROM removals AS r
WHERE r.state = 'waiting' OR (r.state = 'running' AND r.changed_at < clock_timestamp() - make_interval(secs => $2))
ORDER BY r.id

-- name: count_running
-- Number of removals that are marked as running, also by gateways that have ended.
SELECT count(*) FROM removals WHERE state = 'running'

-- name: on_renew
-- Progress of a removal.
done = $3, total = $4, step = $5

-- name: on_complete
-- Outcome of a removal.
error = $4, report = $5, ended_at = clock_timestamp(),
done = CASE WHEN $3 = 'done' THEN total ELSE done END, step = CASE WHEN $3 = 'done' THEN '' ELSE step END
