-- name: latest_lag
-- The last reading of each partition of each group; one that was not read for a minute is left out.
SELECT DISTINCT ON (consumer_group, topic, partition)
    at, consumer_group, topic, partition, end_offset, committed, lag, lag_s
FROM lag_samples
WHERE at > (SELECT max(at) FROM lag_samples) - interval '60 seconds'
ORDER BY consumer_group, topic, partition, at DESC

-- name: lag_since
-- All readings since a time, for those who plan by history.
SELECT at, consumer_group, topic, partition, end_offset, committed, lag, lag_s
FROM lag_samples WHERE at >= $1 ORDER BY at, consumer_group, topic, partition

-- name: arrivals_since
-- Arrivals a second since a time.
SELECT at, task, arrivals FROM arrival_samples WHERE at >= $1 ORDER BY at, task

-- name: instances_since
-- Instance states a second since a time.
SELECT at, variant, worker, state, queued, batch_size, slowdown, answered
FROM instance_samples WHERE at >= $1 ORDER BY at, variant, worker

-- name: list_decisions
-- The last changes of scale, latest first; of those, the ones that concern a name.
SELECT at, kind, action, variant, worker, hardware, reason, policy, inputs, explanation
FROM decisions
WHERE $2::text IS NULL OR $2 IN (variant, worker, hardware) OR variant LIKE $2 || '.%'
    OR variant IN (SELECT name FROM variants WHERE task = $2)
ORDER BY id DESC LIMIT $1

-- name: prune
-- Forget samples from before a time.
WITH lag AS (
    DELETE FROM lag_samples WHERE at < $1 RETURNING 1
), arrivals AS (
    DELETE FROM arrival_samples WHERE at < $1 RETURNING 1
), instances AS (
    DELETE FROM instance_samples WHERE at < $1 RETURNING 1
)
SELECT (SELECT count(*) FROM lag) + (SELECT count(*) FROM arrivals) + (SELECT count(*) FROM instances)

-- name: prune_decisions
-- Forget decisions from before a time.
DELETE FROM decisions WHERE at < $1
