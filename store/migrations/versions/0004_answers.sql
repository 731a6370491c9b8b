-- Queries that workers answered, by load class. A class may have received queries without answers, or the reverse.
ALTER TABLE load_samples
    ADD COLUMN answered bigint NOT NULL DEFAULT 0 CHECK (answered >= 0),
    ADD COLUMN late bigint NOT NULL DEFAULT 0 CHECK (late >= 0),
    ADD COLUMN failed bigint NOT NULL DEFAULT 0 CHECK (failed >= 0)


ALTER TABLE load_minutes
    ADD COLUMN answered bigint NOT NULL DEFAULT 0 CHECK (answered >= 0),
    ADD COLUMN late bigint NOT NULL DEFAULT 0 CHECK (late >= 0),
    ADD COLUMN failed bigint NOT NULL DEFAULT 0 CHECK (failed >= 0)


-- Aggregates one minute of the samples that are not packed. The function is idempotent: a second call changes nothing.
CREATE OR REPLACE FUNCTION roll_up(minute timestamptz) RETURNS void LANGUAGE sql AS $$
    INSERT INTO load_minutes
    SELECT minute, task, target, min_accuracy, latency_ms, offline,
        sum(queries), sum(inputs), sum(refused), sum(upgraded), sum(answered), sum(late), sum(failed)
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
