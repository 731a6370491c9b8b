-- name: add_group_partitions
-- Assign ids to group partitions that have none.
INSERT INTO group_partitions (consumer_group, topic, partition)
SELECT w.* FROM unnest($1::text[], $2::text[], $3::integer[]) AS w (consumer_group, topic, partition)
WHERE NOT EXISTS (SELECT FROM group_partitions AS p WHERE (p.consumer_group, p.topic, p.partition) = (w.consumer_group, w.topic, w.partition))
ON CONFLICT DO NOTHING

-- name: group_partition_ids
-- Ids of group partitions, in the given order.
SELECT array_agg(p.id ORDER BY w.n)
FROM unnest($1::text[], $2::text[], $3::integer[]) WITH ORDINALITY AS w (consumer_group, topic, partition, n)
JOIN group_partitions AS p USING (consumer_group, topic, partition)

-- name: present
-- Present time by the database's clock.
SELECT extract(epoch FROM clock_timestamp())::float8

-- name: latest_lag
-- Lag of each group partition at the last successful reading.
SELECT at, consumer_group, topic, partition, end_offset, committed, lag, lag_s, health
FROM current_lag ORDER BY consumer_group, topic, partition

-- name: reading_error
-- Error of the last reading; empty if it succeeded.
SELECT error FROM lag_readings ORDER BY at DESC LIMIT 1

-- name: add_loss
-- Add to the number of records that a topic has lost.
INSERT INTO topic_alarms AS a (topic, kind, at, amount) VALUES ($1, 'lost', $2, $3)
ON CONFLICT (topic, kind) DO UPDATE SET at = EXCLUDED.at, amount = a.amount + EXCLUDED.amount

-- name: put_large_topics
-- Replace the list of topics that are too large, with their bytes.
WITH found AS (SELECT * FROM unnest($2::text[], $3::bigint[]) AS f (topic, bytes)),
gone AS (DELETE FROM topic_alarms WHERE kind = 'large' AND topic NOT IN (SELECT topic FROM found))
INSERT INTO topic_alarms (topic, kind, at, amount) SELECT topic, 'large', $1, bytes FROM found
ON CONFLICT (topic, kind) DO UPDATE SET at = EXCLUDED.at, amount = EXCLUDED.amount

-- name: prune_losses
-- Delete losses without additions since a time.
DELETE FROM topic_alarms WHERE kind = 'lost' AND at < $1

-- name: topic_alarms
-- All alarms of topics.
SELECT topic, kind, at, amount FROM topic_alarms ORDER BY kind, topic

-- name: task_loads
-- Load of each task in the last seconds.
SELECT task, coalesce(sum(queries) FILTER (WHERE NOT offline), 0)::bigint AS queries,
    coalesce(sum(queries) FILTER (WHERE offline), 0)::bigint AS offline_queries, sum(refused)::bigint AS refused,
    sum(answered)::bigint AS answered, sum(late)::bigint AS late, sum(failed)::bigint AS failed,
    (sum(min_accuracy * queries) / nullif(sum(queries) FILTER (WHERE min_accuracy > 0), 0))::float8 AS wanted_accuracy,
    (sum(max_costs) / nullif(sum(capped), 0))::float8 AS wanted_cost
FROM load_samples WHERE at > clock_timestamp() - make_interval(secs => $1)
GROUP BY task ORDER BY task

-- name: task_answer_times
-- Histogram of the answer times of each task in the last seconds.
SELECT task, array_agg(bucket) AS buckets, array_agg(count) AS counts FROM (
    SELECT task, bucket, sum(count)::bigint AS count
    FROM answer_times, unnest(buckets, counts) AS counted (bucket, count)
    WHERE at > clock_timestamp() - make_interval(secs => $1) GROUP BY task, bucket
) AS summed GROUP BY task

-- name: variant_loads
-- Queries answered by each variant in the last seconds, with what its cost follows from: hardware, threads, seconds of
-- an input at its best batch size, and the times of generated answers.
WITH counted AS (
    SELECT variant, sum(answered)::bigint AS answered FROM instance_samples
    WHERE at > clock_timestamp() - make_interval(secs => $1) AND answered > 0 GROUP BY variant
)
SELECT v.name AS variant, v.task, v.hardware, c.answered, p.accuracy, p.threads, (
    SELECT min(coalesce((e ->> 'mean_s')::float8, (e ->> 'p50_s')::float8) / (e ->> 'batch')::float8)
    FROM jsonb_array_elements(p.latency) AS e
) AS input_s, p.generation
FROM counted AS c JOIN variants AS v ON v.name = c.variant JOIN profiles AS p ON p.variant = v.name
ORDER BY c.answered DESC, v.name

-- name: task_load_points
-- Load of each class of a task in intervals of the last seconds, oldest first, the first of them whole. Parameters: task,
-- range, length of an interval in s. Beyond a quarter of an hour, minutes are read instead of samples, but for those not aggregated yet.
WITH chosen AS (
    SELECT at, target, min_accuracy, latency_ms, offline, queries, refused, answered, late, failed FROM load_minutes
    WHERE task = $1 AND $2::float8 > 900
        AND at >= date_bin(make_interval(secs => $3::float8), clock_timestamp() - make_interval(secs => $2::float8), '2000-01-01Z')
    UNION ALL
    SELECT at, target, min_accuracy, latency_ms, offline, queries, refused, answered, late, failed FROM load_samples
    WHERE task = $1
        AND at >= date_bin(make_interval(secs => $3::float8), clock_timestamp() - make_interval(secs => least($2::float8, 900)), '2000-01-01Z')
    AND (
        $2::float8 <= 900
        OR at >= coalesce((SELECT max(at) + interval '1 minute' FROM load_minutes WHERE at > clock_timestamp() - interval '15 minutes'), '-infinity')
    )
)
SELECT date_bin(make_interval(secs => $3::float8), at, '2000-01-01Z') AS at, target, min_accuracy::float8, latency_ms::float8,
    offline, sum(queries)::bigint AS queries, sum(refused)::bigint AS refused, sum(answered)::bigint AS answered,
    sum(late)::bigint AS late, sum(failed)::bigint AS failed
FROM chosen GROUP BY 1, 2, 3, 4, 5 ORDER BY 1

-- name: instance_counts
-- Number of instances of each variant with each state, for each of the last minutes, oldest first.
WITH seen AS (
    SELECT at AS minute, variant, worker, state FROM instance_minutes
    WHERE at > clock_timestamp() - make_interval(secs => $1::float8)
    UNION ALL
    (SELECT DISTINCT ON (1, 2, 3) date_trunc('minute', at), variant, worker, state FROM instance_samples
    WHERE at > clock_timestamp() - make_interval(secs => least($1::float8, 300)) AND at >= coalesce(
        (SELECT max(at) + interval '1 minute' FROM instance_minutes WHERE at > clock_timestamp() - interval '5 minutes'),
        '-infinity'
    )
    ORDER BY 1, 2, 3, at DESC)
)
SELECT minute AS at, variant AS name, count(*) FILTER (WHERE state = ANY ($2))::int AS count FROM seen
GROUP BY 1, 2 ORDER BY 1, 2

-- name: worker_counts
-- Number of workers of each hardware for each of the last minutes, oldest first.
WITH seen AS (
    SELECT at AS minute, worker, hardware FROM worker_minutes WHERE at > clock_timestamp() - make_interval(secs => $1::float8)
    UNION ALL
    SELECT DISTINCT date_trunc('minute', at), worker, hardware FROM worker_samples
    WHERE at > clock_timestamp() - make_interval(secs => least($1::float8, 300)) AND at >= coalesce(
        (SELECT max(at) + interval '1 minute' FROM worker_minutes WHERE at > clock_timestamp() - interval '5 minutes'),
        '-infinity'
    )
)
SELECT minute AS at, hardware AS name, count(*)::int AS count FROM seen GROUP BY 1, 2 ORDER BY 1, 2

-- name: task_lags
-- Queries of each task that wait in its topics and those of its variants, and the age of the oldest in s. Parameters:
-- prefixes of the topics of tasks and of variants.
WITH read AS ( -- as the view current_lag, but told apart by numbers before the names are looked up: five times as fast
    SELECT DISTINCT ON (e.place) e.place, e.lag, e.since_s
    FROM lag_readings AS r
    CROSS JOIN LATERAL unnest(r.group_partitions, r.lags, r.since_s) AS e (place, lag, since_s)
    WHERE r.at >= (SELECT max(at) FROM lag_readings WHERE whole)
    ORDER BY e.place, r.at DESC
), latest AS (
    SELECT extract(epoch FROM max(at))::float8 AS at FROM lag_readings WHERE error = ''
), lagging AS (
    SELECT p.topic, sum(lag)::bigint AS lag,
        max(greatest(latest.at - since_s, 0)) FILTER (WHERE since_s <> 'NaN') AS lag_s
    FROM latest, read JOIN group_partitions AS p ON p.id = read.place WHERE lag > 0 GROUP BY p.topic
), owned AS (
    SELECT $1 || name AS topic, name AS task FROM tasks
    UNION ALL SELECT $1 || name || '.offline', name FROM tasks
    UNION ALL SELECT $2 || name, task FROM variants
    UNION ALL SELECT $2 || name || '.offline', task FROM variants
)
SELECT task, sum(lag)::bigint AS lag, max(lag_s)::float8 AS lag_s FROM lagging JOIN owned USING (topic) GROUP BY task

-- name: reading_at
-- Time of the last successful reading.
SELECT max(at) FROM lag_readings WHERE error = ''

-- name: latest_worker_samples
-- Last sample of each worker in the last seconds.
SELECT DISTINCT ON (worker) at, worker, hardware, slots, utilisation, memory_used, memory_total, cpus, cpu_busy
FROM worker_samples WHERE at > clock_timestamp() - make_interval(secs => $1)
ORDER BY worker, at DESC

-- name: maintain_partitions
-- Create upcoming partitions and drop expired ones; parameters: present time, retention of fine and coarse samples in
-- s.
SELECT keep_partitions($1, make_interval(secs => $2), make_interval(secs => $3))

-- name: roll_up
-- Aggregate a minute.
SELECT roll_up($1)

-- name: list_decisions
-- Latest scaling decisions, newest first, optionally about a name.
SELECT at, kind, action, variant, worker, hardware, reason, policy, inputs, explanation
FROM decisions
WHERE $2::text IS NULL OR $2 IN (variant, worker, hardware) OR variant LIKE $2 || '.%'
    OR variant IN (SELECT name FROM variants WHERE task = $2) OR inputs ->> 'task' = $2
ORDER BY id DESC LIMIT $1

-- name: prune_decisions
-- Delete decisions before a time.
DELETE FROM decisions WHERE at < $1
