-- Bounds on the scale that a person sets, independent of load. NULL: no bound.
CREATE TABLE scale_pins (
    kind text NOT NULL CHECK (kind IN ('task', 'variant', 'hardware')),
    name text NOT NULL,
    least integer CHECK (least >= 0),
    most integer CHECK (most >= 0),
    pinned_by text NOT NULL,
    pinned_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name),
    CHECK (least IS NOT NULL OR most IS NOT NULL),
    CONSTRAINT least_is_at_most_most CHECK (least <= most)
)


-- One row: the pause of scaling.
CREATE TABLE scale_control (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    paused boolean NOT NULL DEFAULT false,
    changed_by text NOT NULL DEFAULT '',
    changed_at timestamptz NOT NULL DEFAULT now()
)


INSERT INTO scale_control DEFAULT VALUES


CREATE TABLE wanted_workers (
    hardware text PRIMARY KEY,
    count integer NOT NULL CHECK (count >= 0),
    reason text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
)


ALTER TABLE workers ADD COLUMN draining_since timestamptz


-- Worker that has loaded the variant and waits for a partition that another worker still serves; the owner then
-- releases it.
ALTER TABLE leases ADD COLUMN asked_by text REFERENCES workers (name) ON DELETE SET NULL


ALTER TABLE decisions
    ADD COLUMN kind text NOT NULL DEFAULT 'instance' CHECK (kind IN ('instance', 'worker', 'control')),
    ADD COLUMN hardware text NOT NULL DEFAULT '',
    ADD COLUMN policy text NOT NULL DEFAULT '',
    ADD COLUMN explanation jsonb NOT NULL DEFAULT '{}'


DROP TRIGGER notify ON workers


CREATE TRIGGER notify AFTER INSERT OR UPDATE OF epoch, retired, draining_since OR DELETE ON workers
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_placement')


-- A row trigger with a condition: workers try for leases several times a second, and a statement trigger would fire
-- even if no row changed.
CREATE TRIGGER notify AFTER UPDATE ON leases
    FOR EACH ROW
    WHEN ((NEW.asked_by IS NOT NULL AND NEW.asked_by IS DISTINCT FROM OLD.asked_by)
        OR (NEW.worker IS NULL AND OLD.worker IS NOT NULL))
    EXECUTE FUNCTION notify_channel('infaas_leases')


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON scale_pins
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_scale')


CREATE TRIGGER notify AFTER UPDATE ON scale_control
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_scale')


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON wanted_workers
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_scale')
