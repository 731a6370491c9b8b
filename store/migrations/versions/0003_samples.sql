-- What the tables held is of the last hour only, and in another form.
DROP TABLE lag_samples, arrival_samples, instance_samples


-- A number for each partition as a group sees it, by which readings name it.
CREATE TABLE places (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL CHECK (partition >= 0),
    UNIQUE (consumer_group, topic, partition)
)


-- One row a reading, arrays along `places`. A whole one names all that was read, the others only what is no longer as
-- in the row before; so an idle partition costs nothing, and a row's absence says that nobody looked. In arrays a
-- partition takes 38 bytes before compression, as a row of its own more than 100 with its index.
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


-- One row a minute, arrays along those of `places` that were behind or moved in it.
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


-- Queries that arrived, by needs class; a class that nobody asked for has no row.
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


-- What instances completed and how they are; one that is as it was and did nothing has a row a minute.
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


-- The packed readings as one row a partition, for people and plots.
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


-- What the last reading that succeeded found: all since the last whole one, the latest of each, and grown older since.
CREATE VIEW current_lag AS
WITH latest AS (SELECT max(at) AS at FROM lag_readings WHERE error = '')
SELECT DISTINCT ON (s.consumer_group, s.topic, s.partition)
    latest.at, s.consumer_group, s.topic, s.partition, s.end_offset, s.committed, s.lag,
    CASE WHEN s.lag = 0 THEN 0 ELSE (s.lag_s + EXTRACT(EPOCH FROM latest.at - s.at))::double precision END AS lag_s,
    s.health
FROM latest, lag_samples AS s
WHERE s.at >= (SELECT max(at) FROM lag_readings WHERE whole)
ORDER BY s.consumer_group, s.topic, s.partition, s.at DESC


-- The minutes of `lag_minutes` as one row a partition.
CREATE VIEW lag_by_minute AS
SELECT r.at, p.consumer_group, p.topic, p.partition, e.arrived, e.completed, e.lag_max, e.lag_mean, e.lag_s_max
FROM lag_minutes AS r
CROSS JOIN LATERAL unnest(r.places, r.arrived, r.completed, r.lag_max, r.lag_mean, r.lag_s_max)
    AS e (place, arrived, completed, lag_max, lag_mean, lag_s_max)
JOIN places AS p ON p.id = e.place


-- Makes the partitions of now and the near future, and drops those that hold nothing younger than is kept. Returns the
-- number dropped. The time is the recorder's, since it is what the samples carry.
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


-- Sums up one minute of what is not packed. Called again for a minute, it replaces nothing and adds nothing.
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


-- So that samples can be written before anybody has kept anything.
SELECT keep_partitions(now(), interval '1 hour', interval '14 days')
