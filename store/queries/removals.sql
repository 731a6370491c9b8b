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

-- name: mark_task
-- Mark a task for removal.
UPDATE tasks SET removing = true WHERE name = $1 AND NOT removing

-- name: mark_architectures
-- Mark architectures for removal: the named ones, and all of a task.
UPDATE architectures SET removing = true WHERE (name = ANY ($1::text[]) OR task = $2::text) AND NOT removing

-- name: mark_variants
-- Mark variants for removal: the named ones, and all of architectures and of a task.
UPDATE variants SET state = 'removing', reason = '' WHERE (name = ANY ($1::text[]) OR architecture = ANY ($2::text[]) OR task = $3::text) AND state <> 'removing'

-- name: delete_instances
-- Delete all wanted instances of variants.
DELETE FROM instances WHERE variant = ANY ($1::text[])

-- name: held_partitions
-- Number of partitions of variants that workers hold leases of.
SELECT count(*) FROM held_leases WHERE variant = ANY ($1::text[])

-- name: lock_catalog
-- Block registrations while the files to delete are determined.
LOCK TABLE architectures, variants IN SHARE MODE

-- name: queries_since
-- Number of queries since a time, received or answered, for a task, architectures or variants.
SELECT greatest(
    (SELECT coalesce(sum(queries), 0) FROM load_samples WHERE at >= $1 AND (task = $2::text OR target = ANY ($3::text[] || $4::text[]))),
    (SELECT coalesce(sum(answered), 0) FROM instance_samples WHERE at >= $1 AND variant = ANY ($4::text[]))
)::bigint

-- name: pins_of
-- Pins of a task or of variants.
SELECT kind || ' ' || name AS text FROM scale_pins WHERE (kind = 'task' AND name = $1::text) OR (kind = 'variant' AND name = ANY ($2::text[]))

-- name: instances_of
-- Instances of variants on living workers.
SELECT i.variant || ' on ' || i.worker AS text FROM instances i JOIN workers w ON w.name = i.worker
WHERE i.variant = ANY ($1::text[]) AND NOT w.retired AND w.heartbeat_at > clock_timestamp() - make_interval(secs => $2)
ORDER BY 1

-- name: jobs_of
-- Open jobs of a task, or that name architectures or variants.
SELECT count(*) || ' of ' || model AS text FROM jobs
WHERE state IN ('queued', 'running') AND (task = $1::text OR model = ANY ($2::text[] || $3::text[]))
GROUP BY model ORDER BY model

-- name: references_of
-- Other tasks whose models are verified against one of these variants.
SELECT name AS text FROM tasks WHERE reference = ANY ($2::text[]) AND name IS DISTINCT FROM $1::text

-- name: delete_samples
-- Delete the samples, pins and decisions of a task, architectures and variants, and the samples of their topics.
WITH pins AS (
    DELETE FROM scale_pins WHERE (kind = 'task' AND name = $1::text) OR (kind = 'variant' AND name = ANY ($3::text[]))
), places AS (
    DELETE FROM group_partitions WHERE topic = ANY ($4::text[])
), alarms AS (
    DELETE FROM topic_alarms WHERE topic = ANY ($4::text[])
), load AS (
    DELETE FROM load_samples WHERE task = $1::text OR target = ANY ($2::text[] || $3::text[])
), load_by_minute AS (
    DELETE FROM load_minutes WHERE task = $1::text OR target = ANY ($2::text[] || $3::text[])
), times AS (
    DELETE FROM answer_times WHERE task = $1::text
), seen AS (
    DELETE FROM instance_samples WHERE variant = ANY ($3::text[])
), seen_by_minute AS (
    DELETE FROM instance_minutes WHERE variant = ANY ($3::text[])
)
DELETE FROM decisions WHERE variant = ANY ($3::text[]) OR inputs ->> 'task' = $1::text

-- name: delete_builds
-- Delete build steps of a task, of architectures, or with these files; return all files that the steps name.
WITH gone AS (
    DELETE FROM builds
    WHERE step #>> '{step,registration,task}' = $1::text
        OR step #>> '{step,registration,architecture}' = ANY ($2::text[])
        OR EXISTS (SELECT FROM unnest($3::text[]) AS file WHERE strpos(concat(step, outcome), file) > 0)
    RETURNING concat(step, outcome) AS named
)
SELECT DISTINCT found[1] AS text FROM gone, regexp_matches(named, '"([0-9a-f]{64})"', 'g') AS found

-- name: files_of_builds
-- All files that build steps name.
SELECT DISTINCT found[1] AS text FROM builds, regexp_matches(concat(step, outcome), '"([0-9a-f]{64})"', 'g') AS found

-- name: delete_variants
-- Delete variants, their profiles, instances and leases.
DELETE FROM variants WHERE name = ANY ($1::text[])

-- name: delete_architectures
-- Delete architectures.
DELETE FROM architectures WHERE name = ANY ($1::text[])

-- name: delete_task
-- Delete a task.
DELETE FROM tasks WHERE name = $1

-- name: withdraw_versions
-- End the trial of versions that are being unregistered, and exclude them as versions to roll back to.
UPDATE rollouts r SET
    candidate = CASE WHEN c.removing THEN NULL ELSE r.candidate END,
    share = CASE WHEN c.removing THEN 0 ELSE r.share END,
    shadow = CASE WHEN c.removing THEN 0 ELSE r.shadow END,
    previous = CASE WHEN p.removing THEN NULL ELSE r.previous END
FROM rollouts o
LEFT JOIN architectures c ON c.model = o.model AND c.version = o.candidate
LEFT JOIN architectures p ON p.model = o.model AND p.version = o.previous
WHERE o.model = r.model AND (c.removing OR p.removing)

-- name: serving_versions
-- Models that would lose their serving version although they have versions outside these architectures.
SELECT r.model AS text FROM rollouts r JOIN architectures s ON s.model = r.model AND s.version = r.serving
WHERE s.name = ANY ($1::text[])
    AND EXISTS (SELECT FROM architectures o WHERE o.model = r.model AND NOT o.name = ANY ($1::text[]))
ORDER BY 1
