-- name: list_pins
-- All bounds that people set.
SELECT kind, name, minimum, maximum, pinned_by, pinned_at FROM scale_pins ORDER BY kind, name

-- name: put_pin
-- Set the bounds of something, instead of those it had.
INSERT INTO scale_pins AS p (kind, name, minimum, maximum, pinned_by) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (kind, name) DO UPDATE SET
    minimum = excluded.minimum, maximum = excluded.maximum, pinned_by = excluded.pinned_by, pinned_at = now()

-- name: delete_pin
-- Take the bounds of something away.
DELETE FROM scale_pins WHERE kind = $1 AND name = $2

-- name: get_control
-- Whether the scale is paused.
SELECT paused, changed_by, changed_at FROM scale_control

-- name: set_paused
-- Pause the scale, or let it follow load again. No row: it is so already.
UPDATE scale_control SET paused = $1, changed_by = $2, changed_at = now() WHERE paused <> $1

-- name: list_wanted
-- How many workers of each hardware should run.
SELECT hardware, count, reason, extract(epoch FROM clock_timestamp() - updated_at)::float8 AS age_s
FROM wanted_workers ORDER BY hardware

-- name: put_wanted
-- Note how many workers of a hardware should run.
INSERT INTO wanted_workers AS w (hardware, count, reason) VALUES ($1, $2, $3)
ON CONFLICT (hardware) DO UPDATE SET count = excluded.count, reason = excluded.reason, updated_at = now()

-- name: drain_workers
-- Have workers end: they get nothing new, and what they host moves away.
UPDATE workers SET draining_since = clock_timestamp() WHERE name = ANY ($1) AND draining_since IS NULL AND NOT retired

-- name: undrain_workers
-- Let workers that drain stay after all.
UPDATE workers SET draining_since = NULL WHERE name = ANY ($1)

-- name: remove_worker
-- The process of a worker is gone for good: its row is listed no longer, and its partitions are free.
WITH released AS (
    UPDATE leases SET worker = NULL WHERE worker = $1
)
UPDATE workers SET retired = true WHERE name = $1 AND NOT retired
