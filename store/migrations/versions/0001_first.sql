-- Statements are separated by two empty lines: the driver executes one at a time, and function bodies contain
-- semicolons. Only features of Postgres 14 are used.

-- One namespace for all names in URLs: the same URL segment must not name both a task and an architecture.
CREATE TABLE names (
    name text PRIMARY KEY CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    kind text NOT NULL CHECK (kind IN ('task', 'architecture')),
    UNIQUE (name, kind)
)


CREATE TABLE tasks (
    name text PRIMARY KEY,
    kind text NOT NULL DEFAULT 'task' CHECK (kind = 'task'),
    inputs jsonb NOT NULL CHECK (jsonb_array_length(inputs) > 0),
    outputs jsonb NOT NULL CHECK (jsonb_array_length(outputs) > 0),
    partitions integer NOT NULL CHECK (partitions > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT task_name_is_taken_by_another_kind FOREIGN KEY (name, kind) REFERENCES names (name, kind)
)


CREATE TABLE architectures (
    name text PRIMARY KEY,
    kind text NOT NULL DEFAULT 'architecture' CHECK (kind = 'architecture'),
    task text NOT NULL REFERENCES tasks (name) ON DELETE CASCADE,
    source text NOT NULL CHECK (source ~ '^[0-9a-f]{64}$'),
    source_format text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (name, task),
    CONSTRAINT architecture_name_is_taken_by_another_kind FOREIGN KEY (name, kind) REFERENCES names (name, kind)
)


CREATE INDEX architectures_of_task ON architectures (task)


CREATE TABLE variants (
    name text PRIMARY KEY,
    architecture text NOT NULL,
    task text NOT NULL,
    runtime text NOT NULL,
    precision text NOT NULL,
    hardware text NOT NULL,
    max_batch integer NOT NULL CHECK (max_batch > 0),
    artifact text NOT NULL CHECK (artifact ~ '^[0-9a-f]{64}$'),
    state text NOT NULL CHECK (state IN ('generated', 'verified', 'ready', 'refused')),
    reason text NOT NULL DEFAULT '',
    partitions integer NOT NULL CHECK (partitions > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- The task must be that of the architecture.
    FOREIGN KEY (architecture, task) REFERENCES architectures (name, task) ON DELETE CASCADE,
    CHECK (name LIKE architecture || '.%.' || hardware),
    CHECK (state <> 'refused' OR reason <> '')
)


CREATE INDEX variants_of_architecture ON variants (architecture)


CREATE INDEX variants_of_task ON variants (task)


CREATE TABLE profiles (
    variant text PRIMARY KEY REFERENCES variants (name) ON DELETE CASCADE,
    device text NOT NULL,
    threads integer NOT NULL CHECK (threads > 0),
    load_s double precision NOT NULL CHECK (load_s >= 0 AND load_s < 'infinity'),
    memory_bytes bigint NOT NULL CHECK (memory_bytes >= 0),
    accuracy double precision NOT NULL CHECK (accuracy BETWEEN 0 AND 1),
    accuracy_source text NOT NULL CHECK (accuracy_source IN ('measured', 'declared')),
    samples integer NOT NULL CHECK (samples >= 0),
    latency jsonb NOT NULL CHECK (jsonb_array_length(latency) > 0),
    intercept_s double precision NOT NULL,
    slope_s double precision NOT NULL,
    fit_error double precision NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((accuracy_source = 'measured') = (samples > 0))
)


-- A ready variant has a profile. The check is deferred to the commit, so that both can be written in any order.
CREATE FUNCTION check_ready_variant_has_profile() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    subject text := CASE TG_TABLE_NAME WHEN 'variants' THEN to_jsonb(NEW) ->> 'name' ELSE to_jsonb(OLD) ->> 'variant' END;
BEGIN
    IF EXISTS (SELECT FROM variants WHERE name = subject AND state = 'ready')
        AND NOT EXISTS (SELECT FROM profiles WHERE variant = subject)
    THEN
        RAISE EXCEPTION 'variant % cannot be ready without a profile', subject USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$


CREATE CONSTRAINT TRIGGER ready_variant_has_profile AFTER INSERT OR UPDATE ON variants
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_ready_variant_has_profile()


CREATE CONSTRAINT TRIGGER profile_of_ready_variant_stays AFTER DELETE OR UPDATE ON profiles
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_ready_variant_has_profile()


-- The row of a retired worker is kept, because its epoch must never restart.
CREATE TABLE workers (
    name text PRIMARY KEY CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    hardware text NOT NULL,
    device text NOT NULL,
    host text NOT NULL,
    slots integer NOT NULL CHECK (slots > 0),
    threads integer NOT NULL CHECK (threads > 0),
    memory_bytes bigint NOT NULL CHECK (memory_bytes > 0),
    price_per_hour double precision NOT NULL CHECK (price_per_hour >= 0),
    runtimes text[] NOT NULL,
    epoch bigint NOT NULL DEFAULT 1,
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    retired boolean NOT NULL DEFAULT false
)


CREATE TABLE instances (
    variant text NOT NULL REFERENCES variants (name) ON DELETE CASCADE,
    worker text NOT NULL REFERENCES workers (name) ON DELETE CASCADE,
    partitions integer[] NOT NULL CHECK (0 <= ALL (partitions) AND array_position(partitions, NULL) IS NULL),
    max_batch integer NOT NULL CHECK (max_batch > 0),
    state text NOT NULL DEFAULT 'inactive'
        CHECK (state IN ('inactive', 'loading', 'active', 'overloaded', 'interfered', 'draining')),
    reason text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (variant, worker)
)


CREATE INDEX instances_of_worker ON instances (worker)


-- A lease's row outlives its owner (worker NULL: released), because the fencing epoch must never restart.
CREATE TABLE leases (
    variant text NOT NULL REFERENCES variants (name) ON DELETE CASCADE,
    partition integer NOT NULL CHECK (partition >= 0),
    worker text REFERENCES workers (name) ON DELETE SET NULL,
    worker_epoch bigint NOT NULL,
    epoch bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (variant, partition)
)


CREATE INDEX leases_of_worker ON leases (worker)


CREATE TABLE lag_samples (
    at timestamptz NOT NULL,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    end_offset bigint NOT NULL,
    committed bigint,
    lag bigint CHECK (lag >= 0),
    lag_s double precision CHECK (lag_s >= 0)
)


CREATE INDEX lag_samples_at ON lag_samples (at)


CREATE TABLE arrival_samples (
    at timestamptz NOT NULL,
    task text NOT NULL,
    arrivals bigint NOT NULL CHECK (arrivals >= 0)
)


CREATE INDEX arrival_samples_at ON arrival_samples (at)


CREATE TABLE instance_samples (
    at timestamptz NOT NULL,
    variant text NOT NULL,
    worker text NOT NULL,
    state text NOT NULL,
    queued bigint NOT NULL,
    batch_size double precision NOT NULL,
    slowdown double precision NOT NULL,
    answered bigint NOT NULL
)


CREATE INDEX instance_samples_at ON instance_samples (at)


CREATE TABLE decisions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    action text NOT NULL,
    variant text NOT NULL,
    worker text NOT NULL,
    reason text NOT NULL,
    inputs jsonb NOT NULL
)


CREATE INDEX decisions_at ON decisions (at)


-- One notification per statement is enough: listeners read everything again.
CREATE FUNCTION notify_channel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_ARGV[0], TG_TABLE_NAME);
    RETURN NULL;
END $$


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON tasks
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_registry')


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON architectures
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_registry')


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON variants
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_registry')


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON profiles
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_registry')


-- Only wanted state notifies: heartbeats and reports of workers would wake all listeners without need.
CREATE TRIGGER notify AFTER INSERT OR UPDATE OF epoch, retired OR DELETE ON workers
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_placement')


CREATE TRIGGER notify AFTER INSERT OR UPDATE OF partitions, max_batch OR DELETE ON instances
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_placement')
