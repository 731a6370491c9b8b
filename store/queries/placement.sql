-- name: find_worker
-- Process that holds this name, or held it last.
SELECT epoch, host, home, retired, heartbeat_at, heartbeat_at > clock_timestamp() - make_interval(secs => $2) AS alive
FROM workers WHERE name = $1

-- name: register_worker
-- Register a starting worker and increment its epoch. A worker that died while it drained continues to drain. No row:
-- the previous epoch is not the expected one, because another process was faster.
INSERT INTO workers AS w
    (name, hardware, device, host, slots, threads, memory_bytes, price_per_hour, runtimes, builds, home, lease_ttl_s)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (name) DO UPDATE SET
    hardware = excluded.hardware, device = excluded.device, host = excluded.host, slots = excluded.slots,
    threads = excluded.threads, memory_bytes = excluded.memory_bytes, price_per_hour = excluded.price_per_hour,
    runtimes = excluded.runtimes, builds = excluded.builds, epoch = w.epoch + 1, heartbeat_at = clock_timestamp(),
    home = excluded.home, lease_ttl_s = excluded.lease_ttl_s, retired = false,
    draining_since = CASE WHEN w.retired THEN NULL ELSE w.draining_since END
WHERE $13::bigint IS NULL OR w.epoch = $13
RETURNING epoch

-- name: heartbeat
-- Record a heartbeat. True: the previous one is older than the TTL, so others may have taken partitions (the subquery
-- reads the row as it was). No row: the worker has a successor, or has retired.
UPDATE workers SET heartbeat_at = clock_timestamp() WHERE name = $1 AND epoch = $2 AND NOT retired
RETURNING (
    SELECT last.heartbeat_at <= clock_timestamp() - make_interval(secs => last.lease_ttl_s)
    FROM workers last WHERE last.name = $1
)

-- name: drain_to_be_replaced
-- Drain a worker that is to be replaced, one per hardware at a time: the row locks serialize concurrent calls.
WITH fleet AS (
    SELECT name, draining_since, heartbeat_at FROM workers
    WHERE hardware = (SELECT hardware FROM workers WHERE name = $1) AND NOT retired
    ORDER BY name FOR UPDATE
), others AS (
    SELECT draining_since FROM fleet
    WHERE name <> $1 AND heartbeat_at > clock_timestamp() - make_interval(secs => $3)
), drained AS (
    UPDATE workers SET draining_since = coalesce(draining_since, clock_timestamp())
    WHERE name = $1 AND epoch = $2 AND NOT retired
        AND EXISTS (SELECT FROM others WHERE draining_since IS NULL)
        AND NOT EXISTS (SELECT FROM others WHERE draining_since IS NOT NULL)
    RETURNING name
)
SELECT CASE
    WHEN EXISTS (SELECT FROM drained) THEN 'draining'
    WHEN EXISTS (SELECT FROM others) THEN 'waiting'
    ELSE 'alone'
END

-- name: retire_worker
-- Retire a worker, and release its partitions.
WITH released AS (
    UPDATE leases SET worker = NULL WHERE worker = $1 AND worker_epoch = $2
)
UPDATE workers SET retired = true WHERE name = $1 AND epoch = $2 AND NOT retired

-- name: list_workers
-- Workers that have not retired, with their liveness.
SELECT name, hardware, device, host, home, slots, threads, memory_bytes, price_per_hour, runtimes, builds, lease_ttl_s,
    epoch, heartbeat_at,
    heartbeat_at > clock_timestamp() - make_interval(secs => $1) AS alive,
    draining_since IS NOT NULL AS draining,
    coalesce(extract(epoch FROM clock_timestamp() - draining_since), 0)::float8 AS draining_s
FROM workers WHERE NOT retired ORDER BY name

-- name: list_instances
-- Wanted instances of all workers, or of one. A worker loads them one at a time in this order, the quickest load first.
SELECT i.variant, i.worker, i.partitions, i.max_batch, i.state, i.reason, i.updated_at
FROM instances i LEFT JOIN profiles p ON p.variant = i.variant WHERE $1::text IS NULL OR i.worker = $1
ORDER BY p.load_s, i.variant, i.worker

-- name: put_instance
-- Write a wanted instance; the state reported by its worker is kept.
INSERT INTO instances (variant, worker, partitions, max_batch, reason) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (variant, worker) DO UPDATE SET
    partitions = excluded.partitions, max_batch = excluded.max_batch, reason = excluded.reason, updated_at = now()

-- name: keep_variants
-- Those of these variants that exist, kept from being deleted until the transaction ends.
SELECT name AS text FROM variants WHERE name = ANY ($1::text[]) FOR KEY SHARE

-- name: delete_instance
-- Delete an instance that is no longer wanted.
DELETE FROM instances WHERE variant = $1 AND worker = $2

-- name: report_instance_state
-- Store the state that a worker reports of an instance; an empty reason keeps the stored one.
UPDATE instances SET state = $3, reason = CASE WHEN $4 = '' THEN reason ELSE $4 END, updated_at = now()
WHERE variant = $1 AND worker = $2

-- name: acquire_leases
-- Acquire partitions that are free, whose owner is silent, or held by an earlier process; a new epoch fences off the
-- former owner. The lock of a silent owner's row makes a simultaneous heartbeat wait, which then finds itself late. Rows
-- of workers are locked before leases, as elsewhere.
WITH silent AS (
    SELECT name FROM workers
    WHERE name IN (SELECT worker FROM leases WHERE variant = $3 AND partition = ANY ($4))
        AND (retired OR heartbeat_at <= clock_timestamp() - make_interval(secs => lease_ttl_s))
    ORDER BY name FOR SHARE
)
INSERT INTO leases AS l (variant, partition, worker, worker_epoch, epoch)
SELECT $3, p, w.name, w.epoch, 1
FROM (SELECT count(*) FROM silent) AS locked, workers w, unnest($4::integer[]) AS p
WHERE w.name = $1 AND w.epoch = $2 AND NOT w.retired
ORDER BY p
ON CONFLICT (variant, partition) DO UPDATE SET
    worker = excluded.worker, worker_epoch = excluded.worker_epoch,
    epoch = l.epoch + CASE WHEN l.worker = excluded.worker AND l.worker_epoch = excluded.worker_epoch THEN 0 ELSE 1 END,
    asked_by = NULL
    WHERE l.worker IS NULL
        OR (l.worker = excluded.worker AND l.worker_epoch <= excluded.worker_epoch)
        OR l.worker IN (SELECT name FROM silent)
        OR l.worker_epoch < (SELECT o.epoch FROM workers o WHERE o.name = l.worker)
RETURNING variant, partition, worker, epoch

-- name: request_leases
-- Request partitions that another worker serves, once. Rows are locked in the same order as elsewhere.
WITH held AS (
    SELECT variant, partition FROM leases
    WHERE variant = $2 AND partition = ANY ($3) AND worker <> $1 AND asked_by IS DISTINCT FROM $1
    ORDER BY partition FOR UPDATE
)
UPDATE leases l SET asked_by = $1 FROM held WHERE l.variant = held.variant AND l.partition = held.partition

-- name: withdraw_lease_requests
-- Withdraw a worker's requests for partitions of a variant.
WITH asked AS (
    SELECT variant, partition FROM leases WHERE variant = $2 AND asked_by = $1 ORDER BY partition FOR UPDATE
)
UPDATE leases l SET asked_by = NULL FROM asked WHERE l.variant = asked.variant AND l.partition = asked.partition

-- name: partitions_to_release
-- A worker's partitions to release now: the next owner requests them, or no living worker shall take them.
SELECT l.partition, l.asked_by IS NOT NULL AS requested
FROM leases l
WHERE l.worker = $1 AND l.worker_epoch = $2 AND l.variant = $3 AND l.partition = ANY ($4)
    AND (l.asked_by IS NOT NULL OR NOT EXISTS (
        SELECT FROM instances i JOIN workers w ON w.name = i.worker
        WHERE i.variant = l.variant AND i.worker <> l.worker AND l.partition = ANY (i.partitions)
            AND NOT w.retired AND w.heartbeat_at > clock_timestamp() - make_interval(secs => $5)
    ))
ORDER BY l.partition

-- name: worker_leases
-- Leases that a worker process holds by their rows, also if its heartbeat is late.
SELECT variant, partition, worker, epoch FROM leases WHERE worker = $1 AND worker_epoch = $2

-- name: release_leases
-- Release the worker's own leases of these partitions.
UPDATE leases SET worker = NULL
WHERE worker = $1 AND worker_epoch = $2 AND variant = $3 AND ($4::integer[] IS NULL OR partition = ANY ($4))

-- name: list_leases
-- Present owners of partitions.
SELECT variant, partition, worker, epoch FROM held_leases
WHERE $1::text IS NULL OR variant = $1
ORDER BY variant, partition
