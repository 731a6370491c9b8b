-- name: list_rollouts
-- Rollouts of all models that have or had several versions, or of the named ones.
SELECT model, serving, previous, candidate, share, shadow, changed_at FROM rollouts
WHERE $1::text[] IS NULL OR model = ANY ($1)
ORDER BY model

-- name: begin_rollout
-- Have the first version of a model serve while others are registered; what is known already stays.
INSERT INTO rollouts (model, serving) VALUES ($1, $2) ON CONFLICT (model) DO NOTHING

-- name: lock_versions
-- Versions of a model that are being unregistered; none of the named begins to be until the transaction ends.
SELECT name FROM (
    SELECT name, removing FROM architectures WHERE model = $1 AND version = ANY ($2::int[]) FOR SHARE
) AS named WHERE removing

-- name: change_rollout
-- Change which version answers which queries, unless somebody else just has.
UPDATE rollouts SET serving = $2, previous = $3, candidate = $4, share = $5, shadow = $6, changed_at = clock_timestamp()
WHERE model = $1 AND changed_at = $7

-- name: add_event
-- Note what happened to a version.
INSERT INTO version_events (model, version, kind, detail, by) VALUES ($1, $2, $3, $4, $5)

-- name: list_events
-- What happened to the versions of a model, in order.
SELECT model, version, kind, detail, by, at FROM version_events WHERE model = $1 ORDER BY id

-- name: add_comparison
-- Add what copies of queries showed of a version to what is known, unless the version has gone.
INSERT INTO version_comparisons AS c
    (model, version, against, compared, failed, agreed, compute_s, against_compute_s)
SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE EXISTS (SELECT FROM architectures WHERE model = $1 AND version = $2)
ON CONFLICT (model, version, against) DO UPDATE SET
    compared = c.compared + excluded.compared, failed = c.failed + excluded.failed,
    agreed = c.agreed + excluded.agreed, compute_s = c.compute_s + excluded.compute_s,
    against_compute_s = c.against_compute_s + excluded.against_compute_s

-- name: list_comparisons
-- What copies of queries showed of the versions of a model.
SELECT model, version, against, compared, failed, agreed, compute_s, against_compute_s
FROM version_comparisons WHERE model = $1 ORDER BY version, against

-- name: list_versions
-- All versions of a model, in order.
SELECT name, task, source, source_format, sample_rows, processing, inputs, made_with, model, version, removing,
    created_at
FROM architectures WHERE model = $1 ORDER BY version
