-- name: record_act
-- Record an action with its outcome so far.
INSERT INTO audit (actor, origin, verb, subject, detail, outcome, error) VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING id

-- name: end_act
-- Record the outcome of an action that has begun.
UPDATE audit SET outcome = $2, error = $3 WHERE id = $1 AND outcome = 'begun'

-- name: list_acts
-- Actions, newest first, filtered by actor, verb, subject (which may be one in a list of subjects) and time range.
SELECT id, at, actor, origin, verb, subject, detail, outcome, error FROM audit
WHERE ($1::text IS NULL OR actor = $1) AND ($2::text IS NULL OR verb = $2)
    AND ($3::text IS NULL OR subject = $3 OR $3 = ANY (string_to_array(subject, ', ')))
    AND ($4::timestamptz IS NULL OR at >= $4) AND ($5::timestamptz IS NULL OR at < $5)
ORDER BY at DESC, id DESC
LIMIT $6

-- name: prune_acts
-- Delete the actions before a time.
DELETE FROM audit WHERE at < $1
