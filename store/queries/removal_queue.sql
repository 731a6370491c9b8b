-- name: put_removal
-- Keep a removal that is asked for; asked for again before it ends, it is the one that is kept.
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
-- The first removal that nobody does, or whose doer has said nothing for too long.
UPDATE removals SET state = 'running', attempts = attempts + 1, beat_at = clock_timestamp()
WHERE id = (
    SELECT id FROM removals
    WHERE state = 'waiting' OR (state = 'running' AND beat_at < clock_timestamp() - make_interval(secs => $1))
    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING *

-- name: count_running
-- Removals that somebody does, or did.
SELECT count(*) FROM removals WHERE state = 'running'

-- name: beat_removal
-- Whoever does a removal still does, and is so far.
UPDATE removals SET beat_at = clock_timestamp(), done = $3, total = $4, step = $5
WHERE id = $1 AND attempts = $2 AND state = 'running'

-- name: end_removal
-- What came of a removal, unless somebody else does it by now.
UPDATE removals SET
    state = $3, error = $4, report = $5, ended_at = clock_timestamp(),
    done = CASE WHEN $3 = 'done' THEN total ELSE done END, step = CASE WHEN $3 = 'done' THEN '' ELSE step END
WHERE id = $1 AND attempts = $2 AND state = 'running'

-- name: release_removal
-- Let somebody else go on with a removal. An attempt that is given back counts for nothing, however often that happens.
UPDATE removals SET state = 'waiting', beat_at = NULL, attempts = attempts - 1
WHERE id = $1 AND attempts = $2 AND state = 'running'
