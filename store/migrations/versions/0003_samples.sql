-- The old tables hold only the last hour, in another form.
DROP TABLE lag_samples, arrival_samples, instance_samples


-- Numbers of group partitions, by which readings refer to them.
CREATE TABLE places (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL CHECK (partition >= 0),
    UNIQUE (consumer_group, topic, partition)
)


-- One row per reading, with arrays parallel to `places`. A whole reading contains all partitions, the others only those
-- that changed since the previous row, so an idle partition costs nothing, and a missing row means that nothing was
-- read. A partition takes 38 bytes in the arrays before compression, compared with more than 100 bytes for a row with
-- index.
CREATE TABLE lag_readings (
    at timestamptz NOT NULL,
    whole boolean NOT NULL,
    error text NOT NULL DEFAULT '',
    places integer[] NOT NULL,
    end_offsets bigint[] NOT NULL,
    committed bigint[] NOT NULL,
    lags bigint[] NOT NULL,
    since_s double precision[] NOT NULL,
    healths smallint[] NOT NULL,
    CHECK (error = '' OR places = '{}')
) PARTITION BY RANGE (at)


CREATE INDEX ON lag_readings (at)


-- One row per minute, with arrays parallel to `places`, which contains the partitions that had lag or traffic.
CREATE TABLE lag_minutes (
    at timestamptz NOT NULL,
    readings integer NOT NULL,
    places integer[] NOT NULL,
    arrived bigint[] NOT NULL,
    completed bigint[] NOT NULL,
    lag_max bigint[] NOT NULL,
    lag_mean real[] NOT NULL,
    lag_s_max real[] NOT NULL
) PARTITION BY RANGE (at)


CREATE INDEX ON lag_minutes (at)


-- Queries received, by load class; a class without queries has no row.
CREATE TABLE load_samples (
    at timestamptz NOT NULL,
    task text NOT NULL,
    target text,
    min_accuracy real NOT NULL,
    latency_ms real,
    offline boolean NOT NULL,
    queries bigint NOT NULL CHECK (queries >= 0),
    inputs bigint NOT NULL CHECK (inputs >= 0),
    refused bigint NOT NULL CHECK (refused >= 0),
    upgraded bigint NOT NULL CHECK (upgraded >= 0)
) PARTITION BY RANGE (at)


CREATE INDEX ON load_samples (at)


CREATE TABLE load_minutes (LIKE load_samples) PARTITION BY RANGE (at)


CREATE INDEX ON load_minutes (at)


-- State and work of instances; an unchanged idle instance has one row per minute.
CREATE TABLE instance_samples (
    at timestamptz NOT NULL,
    variant text NOT NULL,
    worker text NOT NULL,
    state text NOT NULL,
    queued bigint NOT NULL,
    batch_size real NOT NULL,
    batch_s real NOT NULL,
    slowdown real NOT NULL,
    answered bigint NOT NULL,
    inputs bigint NOT NULL,
    late bigint NOT NULL,
    expired bigint NOT NULL
) PARTITION BY RANGE (at)


CREATE INDEX ON instance_samples (at)


CREATE TABLE instance_minutes (LIKE instance_samples) PARTITION BY RANGE (at)


CREATE INDEX ON instance_minutes (at)


CREATE TABLE worker_samples (
    at timestamptz NOT NULL,
    worker text NOT NULL,
    hardware text NOT NULL,
    slots integer NOT NULL,
    utilisation real NOT NULL,
    memory_used bigint NOT NULL,
    memory_total bigint NOT NULL
) PARTITION BY RANGE (at)


CREATE INDEX ON worker_samples (at)


CREATE TABLE worker_minutes (LIKE worker_samples) PARTITION BY RANGE (at)


CREATE INDEX ON worker_minutes (at)


-- The packed readings with one row per partition, for people and plots.
CREATE VIEW lag_samples AS
SELECT
    r.at, p.consumer_group, p.topic, p.partition,
    NULLIF(e.end_offset, -1) AS end_offset,
    CASE WHEN e.committed >= 0 THEN e.committed END AS committed,
    CASE WHEN e.lag >= 0 THEN e.lag END AS lag,
    CASE
        WHEN e.lag = 0 THEN 0
        WHEN e.since_s <> 'NaN' THEN GREATEST(EXTRACT(EPOCH FROM r.at) - e.since_s, 0)
    END AS lag_s,
    (ARRAY['unknown', 'ok', 'lagging', 'stalled', 'stopped', 'rewound'])[e.health + 1] AS health
FROM lag_readings AS r
CROSS JOIN LATERAL unnest(r.places, r.end_offsets, r.committed, r.lags, r.since_s, r.healths)
    AS e (place, end_offset, committed, lag, since_s, health)
JOIN places AS p ON p.id = e.place


-- Lag at the last successful reading: the latest row of each partition since the last whole reading, with its age
-- added.
CREATE VIEW current_lag AS
WITH latest AS (SELECT max(at) AS at FROM lag_readings WHERE error = '')
SELECT DISTINCT ON (s.consumer_group, s.topic, s.partition)
    latest.at, s.consumer_group, s.topic, s.partition, s.end_offset, s.committed, s.lag,
    CASE WHEN s.lag = 0 THEN 0 ELSE (s.lag_s + EXTRACT(EPOCH FROM latest.at - s.at))::double precision END AS lag_s,
    s.health
FROM latest, lag_samples AS s
WHERE s.at >= (SELECT max(at) FROM lag_readings WHERE whole)
ORDER BY s.consumer_group, s.topic, s.partition, s.at DESC


-- `lag_minutes` with one row per partition.
CREATE VIEW lag_by_minute AS
SELECT r.at, p.consumer_group, p.topic, p.partition, e.arrived, e.completed, e.lag_max, e.lag_mean, e.lag_s_max
FROM lag_minutes AS r
CROSS JOIN LATERAL unnest(r.places, r.arrived, r.completed, r.lag_max, r.lag_mean, r.lag_s_max)
    AS e (place, arrived, completed, lag_max, lag_mean, lag_s_max)
JOIN places AS p ON p.id = e.place


-- Creates the partitions of the present and near future, drops those that contain only expired samples, and returns the
-- number dropped. The time is the recorder's, because the samples carry it.
CREATE FUNCTION keep_partitions(present timestamptz, fine interval, coarse interval) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    parent record;
    begins timestamptz;
    child record;
    dropped integer := 0;
BEGIN
    FOR parent IN
        SELECT name, '10 minutes'::interval AS span, fine AS kept
        FROM unnest(ARRAY['lag_readings', 'load_samples', 'instance_samples', 'worker_samples']) AS name
        UNION ALL
        SELECT name, '1 day', coarse
        FROM unnest(ARRAY['lag_minutes', 'load_minutes', 'instance_minutes', 'worker_minutes']) AS name
    LOOP
        FOR ahead IN -1..2 LOOP
            begins := date_bin(parent.span, present, '2000-01-01Z') + ahead * parent.span;
            EXECUTE format(
                'CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                parent.name || to_char(begins AT TIME ZONE 'UTC', '_YYYYMMDD_HH24MI'), parent.name,
                begins, begins + parent.span
            );
        END LOOP;
        FOR child IN SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = parent.name::regclass
        LOOP
            begins := to_timestamp(right(child.name, 13), 'YYYYMMDD_HH24MI')::timestamp AT TIME ZONE 'UTC';
            IF begins + parent.span <= present - parent.kept THEN
                EXECUTE format('DROP TABLE %s', child.name);
                dropped := dropped + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN dropped;
END $$


-- Aggregates one minute of the samples that are not packed. The function is idempotent: a second call changes nothing.
CREATE FUNCTION roll_up(minute timestamptz) RETURNS void LANGUAGE sql AS $$
    INSERT INTO load_minutes
    SELECT minute, task, target, min_accuracy, latency_ms, offline,
        sum(queries), sum(inputs), sum(refused), sum(upgraded)
    FROM load_samples WHERE at >= minute AND at < minute + interval '1 minute'
        AND NOT EXISTS (SELECT FROM load_minutes WHERE at = minute)
    GROUP BY task, target, min_accuracy, latency_ms, offline;

    INSERT INTO instance_minutes
    SELECT minute, variant, worker, (array_agg(state ORDER BY at DESC))[1], max(queued),
        coalesce(sum(batch_size * inputs) / nullif(sum(inputs), 0), 0),
        coalesce(sum(batch_s * inputs) / nullif(sum(inputs), 0), 0),
        max(slowdown), sum(answered), sum(inputs), sum(late), sum(expired)
    FROM instance_samples WHERE at >= minute AND at < minute + interval '1 minute'
        AND NOT EXISTS (SELECT FROM instance_minutes WHERE at = minute)
    GROUP BY variant, worker;

    INSERT INTO worker_minutes
    SELECT minute, worker, (array_agg(hardware))[1], max(slots), avg(utilisation), max(memory_used), max(memory_total)
    FROM worker_samples WHERE at >= minute AND at < minute + interval '1 minute'
        AND NOT EXISTS (SELECT FROM worker_minutes WHERE at = minute)
    GROUP BY worker;
$$


-- Samples can then be written before the first maintenance run.
SELECT keep_partitions(now(), interval '1 hour', interval '14 days')
