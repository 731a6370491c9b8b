-- The tables, grouped by feature: change notifications, registry, versions and rollouts, access, tenants and
-- credentials, workers and instances, scaling, registrations, removals, jobs, samples, audit log, system.
--
-- Rules:
-- * Only features of Postgres 14 are used.
-- * Queries of the running system are in `store/queries/`; the rows of a table are described in `schemas/rows/`.
-- * Times are the database's, except for those of samples and decisions, which the recorder writes.


-- ---------------------------------------------------------------------------------------------------------------------
-- Change notifications
-- ---------------------------------------------------------------------------------------------------------------------

-- Recent notifications, for processes that do not keep a listening connection.
CREATE TABLE changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Readers select by transaction, not by id: ids are assigned before the commit and in a different order.
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    channel text NOT NULL,
    payload text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX changes_xid ON changes (xid);

-- Notifies listeners, stores the notification, and deletes expired notifications once in about 100 calls.
CREATE FUNCTION announce(channel text, payload text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(channel, payload);
    INSERT INTO changes (channel, payload) VALUES (channel, payload);
    IF random() < 0.01 THEN
        DELETE FROM changes WHERE id IN (
            SELECT id FROM changes WHERE at < now() - interval '10 minutes' LIMIT 10000 FOR UPDATE SKIP LOCKED
        );
    END IF;
END $$;

-- Trigger of statements. Argument: the channel. Payload: the table. One notification per statement is enough, because
-- listeners read everything again.
CREATE FUNCTION notify_channel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM announce(TG_ARGV[0], TG_TABLE_NAME);
    RETURN NULL;
END $$;

-- Trigger of rows. Arguments: the channel, and the column that names a row. Payload: the table and the row's name. An
-- update that changes nothing does not notify.
CREATE FUNCTION notify_row() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed jsonb;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW IS NOT DISTINCT FROM OLD THEN
        RETURN NULL;
    END IF;
    changed := CASE WHEN TG_OP = 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    PERFORM announce(TG_ARGV[0], TG_TABLE_NAME || ' ' || (changed ->> TG_ARGV[1]));
    RETURN NULL;
END $$;


-- ---------------------------------------------------------------------------------------------------------------------
-- Registry: tasks, architectures, variants and their profiles
-- ---------------------------------------------------------------------------------------------------------------------

-- One namespace for all names in URLs: the same URL segment must not name both a task and an architecture.
CREATE TABLE names (
    name text PRIMARY KEY CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    kind text NOT NULL CHECK (kind IN ('task', 'architecture')),
    UNIQUE (name, kind)
);

CREATE TABLE tasks (
    name text PRIMARY KEY,
    kind text NOT NULL DEFAULT 'task' CHECK (kind = 'task'),
    inputs jsonb NOT NULL CHECK (jsonb_array_length(inputs) > 0),
    outputs jsonb NOT NULL CHECK (jsonb_array_length(outputs) > 0),
    -- The quality measure, the output that it applies to, the reference outputs, and the names of the classes.
    measure text NOT NULL DEFAULT 'accuracy' CHECK (measure <> ''),
    measured_output text NOT NULL DEFAULT '',
    reference text NOT NULL DEFAULT '',
    classes jsonb NOT NULL DEFAULT '[]',
    -- Partitions of the task's topic.
    partitions integer NOT NULL CHECK (partitions > 0),
    -- True while it is being unregistered: it is not chosen any more, and its name cannot be registered until it is
    -- gone.
    removing boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT task_name_is_taken_by_another_kind FOREIGN KEY (name, kind) REFERENCES names (name, kind)
);

-- Each version of a model is a separate architecture with its own variants; all versions share the name of their model.
CREATE TABLE architectures (
    name text PRIMARY KEY,
    kind text NOT NULL DEFAULT 'architecture' CHECK (kind = 'architecture'),
    model text NOT NULL,
    version integer NOT NULL DEFAULT 1 CHECK (version > 0),
    task text NOT NULL REFERENCES tasks (name) ON DELETE CASCADE,
    -- SHA-256 and format of the model's file.
    source text NOT NULL CHECK (source ~ '^[0-9a-f]{64}$'),
    source_format text NOT NULL,
    -- Options of the registration besides its file: other values make another registration.
    made_with jsonb NOT NULL DEFAULT '{}',
    -- Input limits beyond those of the task: maximum length, and range of ids that index a table.
    inputs jsonb NOT NULL DEFAULT '[]',
    -- Steps that make a model's tensors from a text or an image; NULL: clients send the model's tensors.
    processing jsonb,
    -- SHA-256 of the file with inputs that the model was verified with; empty: none were kept.
    sample_rows text NOT NULL DEFAULT '',
    -- True while it is being unregistered, as for a task.
    removing boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (name, task),
    CONSTRAINT version_exists UNIQUE (model, version),
    CONSTRAINT architecture_name_is_taken_by_another_kind FOREIGN KEY (name, kind) REFERENCES names (name, kind)
);

CREATE INDEX architectures_of_task ON architectures (task);

CREATE TABLE variants (
    name text PRIMARY KEY,
    architecture text NOT NULL,
    task text NOT NULL,
    runtime text NOT NULL,
    precision text NOT NULL,
    -- The chosen calibration, and the number of layers in FP32; empty: there was no choice.
    tuning text NOT NULL DEFAULT '',
    hardware text NOT NULL,
    max_batch integer NOT NULL CHECK (max_batch > 0),
    -- True if inputs of different lengths may share a padded batch.
    mixes_lengths boolean NOT NULL DEFAULT false,
    -- SHA-256 of the file.
    artifact text NOT NULL CHECK (artifact ~ '^[0-9a-f]{64}$'),
    state text NOT NULL CHECK (state IN ('generated', 'verified', 'ready', 'refused', 'removing')),
    reason text NOT NULL DEFAULT '',
    -- Partitions of the variant's topic.
    partitions integer NOT NULL CHECK (partitions > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- The task must be that of the architecture.
    FOREIGN KEY (architecture, task) REFERENCES architectures (name, task) ON DELETE CASCADE,
    -- The name of a variant for several CPU cores ends in their number: `mlp.onnx-fp32.cpu2`.
    CHECK (regexp_replace(name, '[0-9]+$', '') LIKE architecture || '.%.' || hardware),
    CHECK (state <> 'refused' OR reason <> '')
);

CREATE INDEX variants_of_architecture ON variants (architecture);
CREATE INDEX variants_of_task ON variants (task);

-- Measurements of a variant on its hardware.
CREATE TABLE profiles (
    variant text PRIMARY KEY REFERENCES variants (name) ON DELETE CASCADE,
    device text NOT NULL,
    threads integer NOT NULL CHECK (threads > 0),
    load_s double precision NOT NULL CHECK (load_s >= 0 AND load_s < 'infinity'),
    memory_bytes bigint NOT NULL CHECK (memory_bytes >= 0),
    accuracy double precision NOT NULL CHECK (accuracy BETWEEN 0 AND 1),
    accuracy_source text NOT NULL CHECK (accuracy_source IN ('measured', 'declared')),
    samples integer NOT NULL CHECK (samples >= 0),
    -- Latency by batch size, and the line fitted to it.
    latency jsonb NOT NULL CHECK (jsonb_array_length(latency) > 0),
    intercept_s double precision NOT NULL,
    slope_s double precision NOT NULL,
    fit_error double precision NOT NULL,
    -- Latency at lengths other than that of the samples; empty: only the batch axis is dynamic.
    lengths jsonb NOT NULL DEFAULT '[]',
    -- Times of prompts and steps of a generative variant; NULL: it is not generative.
    generation jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((accuracy_source = 'measured') = (samples > 0))
);

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
END $$;

CREATE CONSTRAINT TRIGGER ready_variant_has_profile AFTER INSERT OR UPDATE ON variants
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_ready_variant_has_profile();

CREATE CONSTRAINT TRIGGER profile_of_ready_variant_stays AFTER DELETE OR UPDATE ON profiles
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_ready_variant_has_profile();

-- A running registration must not add to a task or architecture that is being unregistered. The lock on the parent row
-- serializes the two transactions, so that the later one sees the change of the earlier one.
CREATE FUNCTION refuse_while_removing() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    found boolean;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        found := CASE TG_TABLE_NAME
            WHEN 'variants' THEN to_jsonb(OLD) ->> 'state' = 'removing' AND to_jsonb(NEW) ->> 'state' <> 'removing'
            ELSE (to_jsonb(OLD) ->> 'removing')::boolean
        END;
    ELSIF TG_TABLE_NAME = 'variants' THEN
        SELECT a.removing INTO found FROM architectures a WHERE a.name = to_jsonb(NEW) ->> 'architecture' FOR SHARE;
    ELSIF TG_TABLE_NAME = 'architectures' THEN
        SELECT t.removing INTO found FROM tasks t WHERE t.name = to_jsonb(NEW) ->> 'task' FOR SHARE;
        found := found OR EXISTS (SELECT FROM architectures a WHERE a.name = NEW.name AND a.removing);
    ELSE
        SELECT t.removing INTO found FROM tasks t WHERE t.name = NEW.name;
    END IF;
    IF found THEN
        RAISE EXCEPTION '% is being unregistered: wait until that is done, and register it again', NEW.name
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER refuse_while_removing BEFORE INSERT OR UPDATE ON tasks
    FOR EACH ROW EXECUTE FUNCTION refuse_while_removing();

CREATE TRIGGER refuse_while_removing BEFORE INSERT OR UPDATE ON architectures
    FOR EACH ROW EXECUTE FUNCTION refuse_while_removing();

CREATE TRIGGER refuse_while_removing BEFORE INSERT OR UPDATE ON variants
    FOR EACH ROW EXECUTE FUNCTION refuse_while_removing();

CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON tasks
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'name');

CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON architectures
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'name');

CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON variants
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'name');

CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON profiles
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'variant');


-- ---------------------------------------------------------------------------------------------------------------------
-- Versions and rollouts
-- ---------------------------------------------------------------------------------------------------------------------

-- Roles of a model's versions in one row, so that a rollback changes a single row.
CREATE TABLE rollouts (
    model text PRIMARY KEY,
    serving integer NOT NULL,
    previous integer CHECK (previous <> serving),
    candidate integer CHECK (candidate <> serving),
    -- Fractions of the queries that the candidate answers (canary), and that it computes copies of (shadow).
    share double precision NOT NULL DEFAULT 0 CHECK (share BETWEEN 0 AND 1),
    shadow double precision NOT NULL DEFAULT 0 CHECK (shadow BETWEEN 0 AND 1),
    changed_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (model, serving) REFERENCES architectures (model, version) ON DELETE CASCADE,
    CHECK (candidate IS NOT NULL OR (share = 0 AND shadow = 0))
);

CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON rollouts
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'model');

-- History of a model's versions.
CREATE TABLE version_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    model text NOT NULL,
    version integer NOT NULL,
    kind text NOT NULL,
    detail text NOT NULL DEFAULT '',
    by text NOT NULL DEFAULT ''
);

CREATE INDEX version_events_of_model ON version_events (model, id);

-- Sums over the copies of queries that a version computed, compared with the version that answered the clients.
CREATE TABLE version_comparisons (
    model text NOT NULL,
    version integer NOT NULL,
    against integer NOT NULL,
    compared bigint NOT NULL,
    failed bigint NOT NULL,
    agreed double precision NOT NULL,
    compute_s double precision NOT NULL,
    against_compute_s double precision NOT NULL,
    PRIMARY KEY (model, version, against),
    FOREIGN KEY (model, version) REFERENCES architectures (model, version) ON DELETE CASCADE
);

-- A deleted version loses its roles; a deleted candidate ends its trial.
CREATE FUNCTION forget_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE rollouts SET candidate = NULL, share = 0, shadow = 0 WHERE model = OLD.model AND candidate = OLD.version;
    UPDATE rollouts SET previous = NULL WHERE model = OLD.model AND previous = OLD.version;
    IF NOT EXISTS (SELECT FROM architectures WHERE model = OLD.model) THEN
        DELETE FROM version_events WHERE model = OLD.model;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER forget_version AFTER DELETE ON architectures FOR EACH ROW EXECUTE FUNCTION forget_version();


-- ---------------------------------------------------------------------------------------------------------------------
-- Access
-- ---------------------------------------------------------------------------------------------------------------------

-- Owner and visibility of a task, or of a model with all its versions. A name without a row is public and has no owner;
-- the row is deleted with the name.
CREATE TABLE access (
    name text PRIMARY KEY REFERENCES names (name) ON DELETE CASCADE,
    owner text,
    visibility text NOT NULL CHECK (visibility IN ('private', 'shared', 'public')),
    shared_with text[] NOT NULL DEFAULT '{}',
    CHECK (visibility = 'shared' OR shared_with = '{}')
);

CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON access
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'name');

-- The name of a model's first version may stay in use after the model is deleted. A new owner of the name starts
-- without the old access row.
CREATE FUNCTION forget_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM architectures WHERE model = OLD.model) THEN
        DELETE FROM access WHERE name = OLD.model;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER forget_access AFTER DELETE ON architectures FOR EACH ROW EXECUTE FUNCTION forget_access();


-- ---------------------------------------------------------------------------------------------------------------------
-- Tenants and credentials
-- ---------------------------------------------------------------------------------------------------------------------

-- Tenants that send queries over Kafka to topics of their own.
CREATE TABLE tenants (
    name text PRIMARY KEY,
    partitions integer NOT NULL CHECK (partitions > 0),
    kafka_user text NOT NULL DEFAULT '',
    -- Number of the present signing key; keys with smaller numbers are revoked. 0: it has no key.
    key_number integer NOT NULL DEFAULT 0,
    removing boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON tenants
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'name');

-- Kafka users whose password this system has set. It may change and delete only these passwords.
CREATE TABLE kafka_passwords (
    kafka_user text COLLATE "C" PRIMARY KEY CHECK (kafka_user <> '')
);

-- API keys, and client certificates that are used like keys: such a row has the certificate's name instead of a secret.
-- A revoked key is kept, so that its owner remains known.
CREATE TABLE api_keys (
    id text COLLATE "C" PRIMARY KEY,
    secret_hash bytea CHECK (octet_length(secret_hash) = 32),
    certificate text COLLATE "C" CHECK (certificate <> ''),
    tenant text,
    roles text[] NOT NULL CHECK (roles <@ ARRAY['query', 'publish', 'admin'] AND cardinality(roles) > 0),
    -- NULL: all tasks.
    tasks text[],
    -- Quota: queries a second, and queries at the same time.
    per_second double precision CHECK (per_second > 0),
    concurrent integer CHECK (concurrent > 0),
    note text NOT NULL DEFAULT '',
    created_by text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    CHECK (tenant IS NOT NULL OR 'admin' = ANY (roles)),
    CONSTRAINT api_keys_shown CHECK ((secret_hash IS NULL) <> (certificate IS NULL))
);

CREATE UNIQUE INDEX api_keys_certificate ON api_keys (certificate) WHERE revoked_at IS NULL;

CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_api_keys', 'id');


-- ---------------------------------------------------------------------------------------------------------------------
-- Workers and instances
-- ---------------------------------------------------------------------------------------------------------------------

-- The row of a retired worker is kept, because its epoch must never restart.
CREATE TABLE workers (
    name text PRIMARY KEY CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    hardware text NOT NULL,
    device text NOT NULL,
    host text NOT NULL,
    -- Data folder. With the host it distinguishes a restart from a second worker of the same name.
    home text NOT NULL DEFAULT '',
    slots integer NOT NULL CHECK (slots > 0),
    threads integer NOT NULL CHECK (threads > 0),
    memory_bytes bigint NOT NULL CHECK (memory_bytes > 0),
    price_per_hour double precision NOT NULL CHECK (price_per_hour >= 0),
    runtimes text[] NOT NULL,
    -- True if the worker executes build steps.
    builds boolean NOT NULL DEFAULT false,
    -- Seconds without a heartbeat after which its partitions are free.
    lease_ttl_s double precision NOT NULL CHECK (lease_ttl_s > 0),
    epoch bigint NOT NULL DEFAULT 1,
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    draining_since timestamptz,
    retired boolean NOT NULL DEFAULT false
);

-- Only wanted state notifies: heartbeats and reports of workers would wake all listeners without need.
CREATE TRIGGER notify AFTER INSERT OR UPDATE OF epoch, retired, draining_since OR DELETE ON workers
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_placement');

CREATE TABLE instances (
    variant text NOT NULL REFERENCES variants (name) ON DELETE CASCADE,
    worker text NOT NULL REFERENCES workers (name) ON DELETE CASCADE,
    -- Wanted: the partitions of the variant's topic that the instance serves.
    partitions integer[] NOT NULL CHECK (0 <= ALL (partitions) AND array_position(partitions, NULL) IS NULL),
    max_batch integer NOT NULL CHECK (max_batch > 0),
    -- Reported by the worker.
    state text NOT NULL DEFAULT 'inactive'
        CHECK (state IN ('inactive', 'loading', 'active', 'overloaded', 'interfered', 'draining', 'failed')),
    reason text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (variant, worker)
);

CREATE INDEX instances_of_worker ON instances (worker);

CREATE TRIGGER notify AFTER INSERT OR UPDATE OF partitions, max_batch OR DELETE ON instances
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_placement');

-- A lease lasts while its owner's heartbeat does, so it has no expiry and costs no writes. Its row outlives its owner
-- (worker NULL: released), because the fencing epoch must never restart.
CREATE TABLE leases (
    variant text NOT NULL REFERENCES variants (name) ON DELETE CASCADE,
    partition integer NOT NULL CHECK (partition >= 0),
    worker text REFERENCES workers (name) ON DELETE SET NULL,
    worker_epoch bigint NOT NULL,
    epoch bigint NOT NULL,
    -- Worker that has loaded the variant and waits for a partition that another worker still serves; the owner then
    -- releases it.
    asked_by text REFERENCES workers (name) ON DELETE SET NULL,
    PRIMARY KEY (variant, partition)
);

CREATE INDEX leases_of_worker ON leases (worker);

-- Leases of living owners: no other worker can take them.
CREATE VIEW held_leases AS
SELECT l.variant, l.partition, l.worker, l.epoch
FROM leases l JOIN workers w ON w.name = l.worker AND w.epoch = l.worker_epoch
WHERE NOT w.retired AND w.heartbeat_at > clock_timestamp() - make_interval(secs => w.lease_ttl_s);

-- A row trigger with a condition: workers try for leases several times a second, and a statement trigger would fire
-- even if no row changed.
CREATE TRIGGER notify AFTER UPDATE ON leases
    FOR EACH ROW
    WHEN ((NEW.asked_by IS NOT NULL AND NEW.asked_by IS DISTINCT FROM OLD.asked_by)
        OR (NEW.worker IS NULL AND OLD.worker IS NOT NULL))
    EXECUTE FUNCTION notify_channel('infaas_leases');

-- Factor for the latency of a variant's profile on a worker, as observed in long-term operation.
CREATE TABLE corrections (
    variant text NOT NULL REFERENCES profiles (variant) ON DELETE CASCADE,
    worker text NOT NULL REFERENCES workers (name) ON DELETE CASCADE,
    factor double precision NOT NULL CHECK (factor > 0),
    since timestamptz NOT NULL,
    PRIMARY KEY (variant, worker)
);


-- ---------------------------------------------------------------------------------------------------------------------
-- Scaling
-- ---------------------------------------------------------------------------------------------------------------------

-- Bounds on the scale that a person sets, independent of load. NULL: no bound.
CREATE TABLE scale_pins (
    kind text NOT NULL CHECK (kind IN ('task', 'variant', 'hardware')),
    name text NOT NULL,
    minimum integer CHECK (minimum >= 0),
    maximum integer CHECK (maximum >= 0),
    pinned_by text NOT NULL,
    pinned_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name),
    CHECK (minimum IS NOT NULL OR maximum IS NOT NULL),
    CONSTRAINT minimum_is_at_most_maximum CHECK (minimum <= maximum)
);

CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON scale_pins
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_scale');

-- One row: the pause of scaling.
CREATE TABLE scale_control (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    paused boolean NOT NULL DEFAULT false,
    changed_by text NOT NULL DEFAULT '',
    changed_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO scale_control DEFAULT VALUES;

CREATE TRIGGER notify AFTER UPDATE ON scale_control
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_scale');

-- Number of workers that the autoscaler wants of a hardware type.
CREATE TABLE wanted_workers (
    hardware text PRIMARY KEY,
    count integer NOT NULL CHECK (count >= 0),
    reason text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON wanted_workers
    FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_scale');

-- Decisions of the autoscaler, with the values that explain them.
CREATE TABLE decisions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    kind text NOT NULL DEFAULT 'instance' CHECK (kind IN ('instance', 'worker', 'control')),
    action text NOT NULL,
    variant text NOT NULL,
    worker text NOT NULL,
    hardware text NOT NULL DEFAULT '',
    policy text NOT NULL DEFAULT '',
    reason text NOT NULL,
    inputs jsonb NOT NULL,
    explanation jsonb NOT NULL DEFAULT '{}'
);

CREATE INDEX decisions_at ON decisions (at);


-- ---------------------------------------------------------------------------------------------------------------------
-- Registrations, their uploads and builds. `store/claims.py` describes the columns of claims: state, worker (the process
-- that executes it, or executed it), epoch, attempts, reason and changed_at; removals have them, too.
-- ---------------------------------------------------------------------------------------------------------------------

-- Registrations through the admin API; they are kept until they end, and survive crashes.
CREATE TABLE registrations (
    id text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL,
    name text NOT NULL,
    -- Empty: no tenant.
    tenant text NOT NULL,
    -- True if the caller acts for that tenant and is not an administrator.
    publisher boolean NOT NULL,
    asked_by text NOT NULL,
    origin text NOT NULL,
    request jsonb NOT NULL,
    uploads text[] NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    -- Progress.
    steps_done integer NOT NULL DEFAULT 0,
    steps_total integer NOT NULL DEFAULT 0,
    doing text NOT NULL DEFAULT '',
    notes jsonb NOT NULL DEFAULT '[]',
    -- Outcome. The code is one of the error table; empty: the request itself was valid.
    error text NOT NULL DEFAULT '',
    error_code text NOT NULL DEFAULT '',
    made jsonb NOT NULL DEFAULT '[]',
    -- Claim. A crash is an attempt that ended without an outcome; the reason is that of the last one.
    worker text NOT NULL DEFAULT '',
    epoch integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    CHECK ((finished_at IS NOT NULL) = (state IN ('done', 'failed', 'cancelled')))
);

CREATE INDEX registrations_open ON registrations (tenant, created_at) WHERE finished_at IS NULL;

-- A row trigger: with a statement trigger a registrar that claims nothing would be notified by its own statement, and
-- wake endlessly.
CREATE TRIGGER notify AFTER INSERT OR UPDATE OF state ON registrations
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registrations', 'id');

-- Uploaded files by tenant: a tenant must send a file to have it, and cannot learn which files other tenants have.
CREATE TABLE uploads (
    tenant text NOT NULL,
    sha256 text COLLATE "C" NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    bytes bigint NOT NULL CHECK (bytes >= 0),
    arrived boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, sha256)
);

CREATE INDEX uploads_used ON uploads (used_at);

-- Files of OpenAI's API: names for uploads, which stay as long as a file refers to them.
CREATE TABLE files (
    -- Begins with the creation time, so that byte order is chronological order.
    id text COLLATE "C" PRIMARY KEY,
    tenant text NOT NULL,
    name text NOT NULL,
    purpose text NOT NULL CHECK (purpose IN ('batch', 'batch_output')),
    bytes bigint NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    FOREIGN KEY (tenant, sha256) REFERENCES uploads (tenant, sha256)
);

CREATE INDEX files_of_tenant ON files (tenant, id);
CREATE INDEX files_of_upload ON files (tenant, sha256);
CREATE INDEX files_expiring ON files (expires_at);

-- Batches of OpenAI's API: the lines of a file become jobs, and their results become files.
CREATE TABLE batches (
    id text COLLATE "C" PRIMARY KEY,
    tenant text NOT NULL,
    -- The principal with whose rights the lines are computed.
    caller jsonb NOT NULL,
    input_file text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    endpoint text NOT NULL,
    completion_window text NOT NULL,
    metadata jsonb,
    status text NOT NULL DEFAULT 'validating' CHECK (
        status IN ('validating', 'failed', 'in_progress', 'completed', 'expired', 'cancelling', 'cancelled')
    ),
    -- Lines: of the file, stored as jobs, answered, failed.
    total integer NOT NULL DEFAULT 0,
    stored integer NOT NULL DEFAULT 0,
    completed integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    -- Byte of the file at which the first line begins that is not stored.
    position bigint NOT NULL DEFAULT 0,
    errors jsonb NOT NULL DEFAULT '[]',
    output_file text,
    error_file text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deadline_at timestamptz NOT NULL,
    -- Last time at which a gateway worked on it.
    served_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    cancelled_at timestamptz,
    finalized_at timestamptz,
    ended_at timestamptz,
    CHECK ((ended_at IS NULL) = (status IN ('validating', 'in_progress', 'cancelling')))
);

CREATE INDEX batches_of_tenant ON batches (tenant, id);
CREATE INDEX batches_open ON batches (served_at) WHERE ended_at IS NULL;
CREATE INDEX batches_reading ON batches (input_file) WHERE ended_at IS NULL;

-- Steps of registrations that workers execute, keyed by content, so that a finished step is not repeated.
CREATE TABLE builds (
    id text PRIMARY KEY,
    hardware text NOT NULL,
    step jsonb NOT NULL,
    -- Time of the latest request by the database's clock, in ms since the epoch.
    asked_ms bigint NOT NULL,
    outcome jsonb,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done')),
    -- Claim.
    worker text NOT NULL DEFAULT '',
    epoch integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((outcome IS NOT NULL) = (state = 'done'))
);

CREATE INDEX builds_open ON builds (hardware, created_at) WHERE outcome IS NULL;


-- ---------------------------------------------------------------------------------------------------------------------
-- Removals
-- ---------------------------------------------------------------------------------------------------------------------

-- Removals requested at a gateway. One gateway executes each; if that gateway ends, another one continues.
CREATE TABLE removals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    request jsonb NOT NULL,
    -- Principal that requested it, with its rights at that time.
    principal jsonb NOT NULL,
    actor text NOT NULL,
    origin text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    -- Claim.
    worker text NOT NULL DEFAULT '',
    epoch integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    -- Progress.
    done integer NOT NULL DEFAULT 0,
    total integer NOT NULL DEFAULT 0,
    step text NOT NULL DEFAULT '',
    -- Outcome.
    error text NOT NULL DEFAULT '',
    report jsonb,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz
);

-- A repeated request of the same actor refers to the same removal.
CREATE UNIQUE INDEX removals_open ON removals (name, actor) WHERE state IN ('waiting', 'running');

CREATE TRIGGER notify AFTER INSERT OR UPDATE OF state ON removals
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_removals', 'id');


-- ---------------------------------------------------------------------------------------------------------------------
-- Jobs
-- ---------------------------------------------------------------------------------------------------------------------

-- Queries that outlive their request. Jobs remain after their task is deleted, so there is no foreign key.
CREATE TABLE jobs (
    -- Begins with the creation time, so that byte order is chronological order.
    id text COLLATE "C" PRIMARY KEY,
    batch text COLLATE "C",
    -- Of a line of an OpenAI batch: its name and the form of its answer.
    line jsonb,
    model text NOT NULL,
    task text NOT NULL,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    offline boolean NOT NULL,
    headers jsonb NOT NULL,
    -- Tenant of the job; empty: none.
    tenant text GENERATED ALWAYS AS (coalesce(headers ->> 'infaas-tenant', '')) STORED,
    -- Deleted when the job ends.
    request bytea,
    request_bytes integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deadline_at timestamptz,
    -- Earliest time of the next attempt to send it.
    send_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    finished_at timestamptz,
    result_headers jsonb,
    -- Deleted some time before the row.
    result bytea,
    idempotency_key bytea UNIQUE,
    fingerprint bytea NOT NULL,
    -- Notice of completion: its address, an URL or a Kafka topic, and its state.
    webhook text,
    reply_to text,
    notice text CHECK (notice IN ('waiting', 'delivered', 'failed')),
    notice_at timestamptz,
    notice_attempts integer NOT NULL DEFAULT 0,
    notice_error text NOT NULL DEFAULT '',
    CHECK (webhook IS NULL OR reply_to IS NULL),
    CHECK ((request IS NOT NULL) = (state IN ('queued', 'running'))),
    CHECK ((finished_at IS NULL) = (state IN ('queued', 'running')))
);

CREATE INDEX jobs_of_model ON jobs (model, id);
CREATE INDEX jobs_of_tenant ON jobs (tenant, model, id);
CREATE INDEX jobs_of_batch ON jobs (batch, id) WHERE batch IS NOT NULL;
CREATE INDEX jobs_unfinished_of_batch ON jobs (batch) WHERE state IN ('queued', 'running') AND batch IS NOT NULL;
CREATE INDEX jobs_to_send ON jobs (send_at) WHERE state = 'queued';
CREATE INDEX jobs_unfinished ON jobs (task) INCLUDE (request_bytes) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_with_deadline ON jobs (deadline_at) INCLUDE (task, offline, state)
WHERE state IN ('queued', 'running') AND deadline_at IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_with_result ON jobs (finished_at) WHERE result IS NOT NULL;
CREATE INDEX jobs_to_tell ON jobs (notice_at) WHERE notice = 'waiting';

CREATE TRIGGER notify AFTER INSERT ON jobs FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('infaas_jobs');


-- ---------------------------------------------------------------------------------------------------------------------
-- Samples: what the autoscaler observes. Fine samples are kept for hours and those of minutes for weeks; expired ones
-- are dropped by partition.
-- ---------------------------------------------------------------------------------------------------------------------

-- Numbers of the partitions of consumer groups, by which readings refer to them.
CREATE TABLE group_partitions (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL CHECK (partition >= 0),
    UNIQUE (consumer_group, topic, partition)
);

-- One row per reading, with arrays parallel to `group_partitions`. A whole reading contains all partitions, the others
-- only those that changed since the previous row, so an idle partition costs nothing, and a missing row means that
-- nothing was read. A partition takes 38 bytes in the arrays before compression, compared with more than 100 bytes for
-- a row with index.
CREATE TABLE lag_readings (
    at timestamptz NOT NULL,
    whole boolean NOT NULL,
    error text NOT NULL DEFAULT '',
    group_partitions integer[] NOT NULL,
    end_offsets bigint[] NOT NULL,
    committed bigint[] NOT NULL,
    lags bigint[] NOT NULL,
    since_s double precision[] NOT NULL,
    healths smallint[] NOT NULL,
    CHECK (error = '' OR group_partitions = '{}')
) PARTITION BY RANGE (at);

CREATE INDEX ON lag_readings (at);

-- One row per minute, with arrays parallel to `group_partitions`, which contains the partitions that had lag or
-- traffic.
CREATE TABLE lag_minutes (
    at timestamptz NOT NULL,
    readings integer NOT NULL,
    group_partitions integer[] NOT NULL,
    arrived bigint[] NOT NULL,
    completed bigint[] NOT NULL,
    lag_max bigint[] NOT NULL,
    lag_mean real[] NOT NULL,
    lag_s_max real[] NOT NULL
) PARTITION BY RANGE (at);

CREATE INDEX ON lag_minutes (at);

-- Queries received, and queries that workers answered, by load class. A class may have received queries without
-- answers, or the reverse; a class with neither has no row.
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
    upgraded bigint NOT NULL CHECK (upgraded >= 0),
    -- Queries with a maximum cost, and the sum of these costs, each in USD per 1000 inputs.
    capped bigint NOT NULL CHECK (capped >= 0),
    max_costs double precision NOT NULL CHECK (max_costs >= 0),
    answered bigint NOT NULL DEFAULT 0 CHECK (answered >= 0),
    late bigint NOT NULL DEFAULT 0 CHECK (late >= 0),
    failed bigint NOT NULL DEFAULT 0 CHECK (failed >= 0)
) PARTITION BY RANGE (at);

CREATE INDEX ON load_samples (at);

CREATE TABLE load_minutes (
    LIKE load_samples INCLUDING DEFAULTS, CHECK (answered >= 0), CHECK (late >= 0), CHECK (failed >= 0)
) PARTITION BY RANGE (at);

CREATE INDEX ON load_minutes (at);

-- Histogram of the answer times of a task's online queries: one row every five seconds with answers.
CREATE TABLE answer_times (
    at timestamptz NOT NULL,
    task text NOT NULL,
    buckets smallint[] NOT NULL,
    counts bigint[] NOT NULL
) PARTITION BY RANGE (at);

CREATE INDEX ON answer_times (at);

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
) PARTITION BY RANGE (at);

CREATE INDEX ON instance_samples (at);

CREATE TABLE instance_minutes (LIKE instance_samples) PARTITION BY RANGE (at);

CREATE INDEX ON instance_minutes (at);

CREATE TABLE worker_samples (
    at timestamptz NOT NULL,
    worker text NOT NULL,
    hardware text NOT NULL,
    slots integer NOT NULL,
    utilisation real NOT NULL,
    memory_used bigint NOT NULL,
    memory_total bigint NOT NULL,
    cpus real NOT NULL,
    cpu_busy real NOT NULL
) PARTITION BY RANGE (at);

CREATE INDEX ON worker_samples (at);

CREATE TABLE worker_minutes (LIKE worker_samples) PARTITION BY RANGE (at);

CREATE INDEX ON worker_minutes (at);

-- Problems with a topic of work: the total number of records deleted before they were processed, or too many bytes.
CREATE TABLE topic_alarms (
    topic text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('lost', 'large')),
    at timestamptz NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    PRIMARY KEY (topic, kind)
);

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
    (ARRAY['unknown', 'ok', 'lagging', 'stalled', 'stopped', 'rewound', 'lost'])[e.health + 1] AS health
FROM lag_readings AS r
CROSS JOIN LATERAL unnest(r.group_partitions, r.end_offsets, r.committed, r.lags, r.since_s, r.healths)
    AS e (place, end_offset, committed, lag, since_s, health)
JOIN group_partitions AS p ON p.id = e.place;

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
ORDER BY s.consumer_group, s.topic, s.partition, s.at DESC;

-- `lag_minutes` with one row per partition.
CREATE VIEW lag_by_minute AS
SELECT r.at, p.consumer_group, p.topic, p.partition, e.arrived, e.completed, e.lag_max, e.lag_mean, e.lag_s_max
FROM lag_minutes AS r
CROSS JOIN LATERAL unnest(r.group_partitions, r.arrived, r.completed, r.lag_max, r.lag_mean, r.lag_s_max)
    AS e (place, arrived, completed, lag_max, lag_mean, lag_s_max)
JOIN group_partitions AS p ON p.id = e.place;

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
        FROM unnest(ARRAY['lag_readings', 'load_samples', 'answer_times', 'instance_samples', 'worker_samples']) AS name
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
END $$;

-- Aggregates one minute of the samples that are not packed. The function is idempotent: a second call changes nothing.
CREATE FUNCTION roll_up(minute timestamptz) RETURNS void LANGUAGE sql AS $$
    INSERT INTO load_minutes
    SELECT minute, task, target, min_accuracy, latency_ms, offline,
        sum(queries), sum(inputs), sum(refused), sum(upgraded), sum(capped), sum(max_costs), sum(answered), sum(late), sum(failed)
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
    SELECT minute, worker, (array_agg(hardware))[1], max(slots), avg(utilisation), max(memory_used), max(memory_total), max(cpus),
        avg(cpu_busy)
    FROM worker_samples WHERE at >= minute AND at < minute + interval '1 minute'
        AND NOT EXISTS (SELECT FROM worker_minutes WHERE at = minute)
    GROUP BY worker;
$$;

-- Samples can then be written before the first maintenance run.
SELECT keep_partitions(now(), interval '1 hour', interval '14 days');


-- ---------------------------------------------------------------------------------------------------------------------
-- Audit log
-- ---------------------------------------------------------------------------------------------------------------------

-- Administrators' actions. There are no foreign keys, because actions on deleted objects must stay recorded.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    origin text NOT NULL,
    verb text NOT NULL,
    subject text NOT NULL,
    detail jsonb NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('begun', 'done', 'failed')),
    error text NOT NULL DEFAULT ''
);

CREATE INDEX audit_at ON audit (at);


-- ---------------------------------------------------------------------------------------------------------------------
-- System
-- ---------------------------------------------------------------------------------------------------------------------

-- One row: the id of the system that these tables belong to, and the namespace of its topics (empty until the first
-- start). The topic <namespace>.system in Kafka contains the same id, so that no other system uses the topics.
CREATE TABLE system (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id text NOT NULL DEFAULT gen_random_uuid()::text,
    namespace text NOT NULL DEFAULT ''
);

INSERT INTO system DEFAULT VALUES;

-- One row: the secret with which gateways sign the values that they send to selectors in query records, because clients
-- can write such records, too. Two random UUIDs contain 244 random bits from the server's cryptographic random source.
CREATE TABLE system_secret (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret bytea NOT NULL
);

INSERT INTO system_secret (secret)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));
