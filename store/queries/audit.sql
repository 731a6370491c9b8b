-- name: record_act
-- Record an act, with what came of it so far.
INSERT INTO audit (actor, origin, verb, subject, detail, outcome, error) VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING id

-- name: end_act
-- Record what came of an act that was begun.
UPDATE audit SET outcome = $2, error = $3 WHERE id = $1 AND outcome = 'begun'

-- name: list_acts
-- The latest acts, the latest first; those by someone, of a kind, on something or on several of which it is one, within
-- a time.
SELECT id, at, actor, origin, verb, subject, detail, outcome, error FROM audit
WHERE ($1::text IS NULL OR actor = $1) AND ($2::text IS NULL OR verb = $2)
    AND ($3::text IS NULL OR subject = $3 OR $3 = ANY (string_to_array(subject, ', ')))
    AND ($4::timestamptz IS NULL OR at >= $4) AND ($5::timestamptz IS NULL OR at < $5)
ORDER BY at DESC, id DESC
LIMIT $6

-- name: prune_acts
-- Forget the acts of before a time.
DELETE FROM audit WHERE at < $1
