-- name: list_rollouts
-- Rollouts of the models that have or had several versions, or of the named ones.
SELECT model, serving, previous, candidate, share, shadow, changed_at FROM rollouts
WHERE $1::text[] IS NULL OR model = ANY ($1)
ORDER BY model

-- name: begin_rollout
-- Let the first version of a model serve while others are registered; an existing row is kept.
INSERT INTO rollouts (model, serving) VALUES ($1, $2) ON CONFLICT (model) DO NOTHING

-- name: lock_versions
-- Versions that are being unregistered, of those named; the lock blocks their removal until the transaction ends.
SELECT name FROM (
    SELECT name, removing FROM architectures WHERE model = $1 AND version = ANY ($2::int[]) FOR SHARE
) AS named WHERE removing

-- name: change_rollout
-- Change the roles of a model's versions, unless another caller has changed them since.
UPDATE rollouts SET serving = $2, previous = $3, candidate = $4, share = $5, shadow = $6, changed_at = clock_timestamp()
WHERE model = $1 AND changed_at = $7

-- name: add_event
-- Record an event of a version.
INSERT INTO version_events (model, version, kind, detail, by) VALUES ($1, $2, $3, $4, $5)

-- name: list_events
-- Events of the versions of a model, oldest first.
SELECT model, version, kind, detail, by, at FROM version_events WHERE model = $1 ORDER BY id

-- name: add_comparison
-- Add comparisons to the sums of a version, unless the version is deleted.
INSERT INTO version_comparisons AS c
    (model, version, against, compared, failed, agreed, compute_s, against_compute_s)
SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE EXISTS (SELECT FROM architectures WHERE model = $1 AND version = $2)
ON CONFLICT (model, version, against) DO UPDATE SET
    compared = c.compared + excluded.compared, failed = c.failed + excluded.failed,
    agreed = c.agreed + excluded.agreed, compute_s = c.compute_s + excluded.compute_s,
    against_compute_s = c.against_compute_s + excluded.against_compute_s

-- name: list_comparisons
-- Comparisons of the versions of a model.
SELECT model, version, against, compared, failed, agreed, compute_s, against_compute_s
FROM version_comparisons WHERE model = $1 ORDER BY version, against

-- name: list_versions
-- All versions of a model, in order.
SELECT name, task, source, source_format, sample_rows, processing, inputs, made_with, model, version, removing,
    created_at
FROM architectures WHERE model = $1 ORDER BY version
