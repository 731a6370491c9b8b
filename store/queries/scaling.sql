-- name: list_pins
-- All pins.
SELECT kind, name, minimum, maximum, pinned_by, pinned_at FROM scale_pins ORDER BY kind, name

-- name: put_pin
-- Set a pin; it replaces the previous bounds.
INSERT INTO scale_pins AS p (kind, name, minimum, maximum, pinned_by) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (kind, name) DO UPDATE SET
    minimum = excluded.minimum, maximum = excluded.maximum, pinned_by = excluded.pinned_by, pinned_at = now()

-- name: delete_pin
-- Delete a pin.
DELETE FROM scale_pins WHERE kind = $1 AND name = $2

-- name: get_control
-- State of the pause.
SELECT paused, changed_by, changed_at FROM scale_control

-- name: set_paused
-- Pause or resume scaling. No row: the state is the same already.
UPDATE scale_control SET paused = $1, changed_by = $2, changed_at = now() WHERE paused <> $1

-- name: list_wanted
-- Wanted number of workers by hardware.
SELECT hardware, count, reason, extract(epoch FROM clock_timestamp() - updated_at)::float8 AS age_s
FROM wanted_workers ORDER BY hardware

-- name: put_wanted
-- Store the wanted number of workers of a hardware type.
INSERT INTO wanted_workers AS w (hardware, count, reason) VALUES ($1, $2, $3)
ON CONFLICT (hardware) DO UPDATE SET count = excluded.count, reason = excluded.reason, updated_at = now()

-- name: drain_workers
-- Drain workers: they get no new instances, and their instances move to other workers.
UPDATE workers SET draining_since = clock_timestamp() WHERE name = ANY ($1) AND draining_since IS NULL AND NOT retired

-- name: undrain_workers
-- Stop the draining of workers.
UPDATE workers SET draining_since = NULL WHERE name = ANY ($1)

-- name: remove_worker
-- Retire a worker whose process is gone for good, and release its partitions.
WITH released AS (
    UPDATE leases SET worker = NULL WHERE worker = $1
)
UPDATE workers SET retired = true WHERE name = $1 AND NOT retired
