-- name: put_task
-- Create a task, or keep an equal existing one. No row: it exists with another signature or measure.
WITH named AS (
    INSERT INTO names (name, kind) VALUES ($1, 'task') ON CONFLICT (name) DO NOTHING
)
INSERT INTO tasks AS t (name, inputs, outputs, partitions, measure, measured_output, classes, reference)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (name) DO UPDATE SET partitions = t.partitions
    WHERE t.inputs = excluded.inputs AND t.outputs = excluded.outputs AND t.measure = excluded.measure
RETURNING name

-- name: list_tasks
-- All tasks, or the named ones.
SELECT name, inputs, outputs, partitions, measure, measured_output, classes, reference, removing, created_at FROM tasks
WHERE $1::text[] IS NULL OR name = ANY ($1)
ORDER BY name

-- name: grow_task
-- Increase the number of a task's partitions; it never decreases.
UPDATE tasks SET partitions = $2 WHERE name = $1 AND partitions < $2

-- name: put_architecture
-- Create an architecture, or keep an equal existing one. No row: the name stands for another model.
WITH named AS (
    INSERT INTO names (name, kind) VALUES ($1, 'architecture') ON CONFLICT (name) DO NOTHING
)
INSERT INTO architectures AS a
    (name, task, source, source_format, sample_rows, processing, made_with, model, version, inputs)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (name) DO UPDATE SET
    source_format = excluded.source_format, sample_rows = excluded.sample_rows, made_with = excluded.made_with,
    inputs = excluded.inputs
    WHERE a.task = excluded.task AND a.source = excluded.source
    AND a.processing IS NOT DISTINCT FROM excluded.processing
RETURNING name

-- name: list_architectures
-- All architectures, those of a task, or the named ones.
SELECT name, task, source, source_format, sample_rows, processing, inputs, made_with, model, version, removing,
    created_at
FROM architectures
WHERE ($1::text IS NULL OR task = $1) AND ($2::text[] IS NULL OR name = ANY ($2))
ORDER BY name

-- name: free_names
-- Free names for reuse, except model names that other versions still use.
DELETE FROM names n WHERE name = ANY ($1::text[]) AND NOT EXISTS (SELECT FROM architectures WHERE model = n.name)

-- name: put_variant
-- Create a variant or replace its data. No row: it belongs elsewhere, or with $14 it is ready and kept.
INSERT INTO variants AS v
    (name, architecture, task, runtime, precision, hardware, max_batch, artifact, state, reason, partitions,
    mixes_lengths, tuning)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (name) DO UPDATE SET
    runtime = excluded.runtime, precision = excluded.precision, hardware = excluded.hardware,
    max_batch = excluded.max_batch, artifact = excluded.artifact, state = excluded.state, reason = excluded.reason,
    partitions = greatest(v.partitions, excluded.partitions), mixes_lengths = excluded.mixes_lengths,
    tuning = excluded.tuning
    WHERE v.architecture = excluded.architecture AND v.task = excluded.task AND NOT ($14 AND v.state = 'ready')
RETURNING name

-- name: grow_variant
-- Increase the number of a variant's partitions; it never decreases.
UPDATE variants SET partitions = $2 WHERE name = $1 AND partitions < $2

-- name: list_variants
-- All variants, filtered by task, architecture, state and names.
SELECT name, architecture, task, runtime, precision, hardware, max_batch, artifact, state, reason, partitions,
    mixes_lengths, tuning, created_at
FROM variants
WHERE ($1::text IS NULL OR task = $1)
    AND ($2::text IS NULL OR architecture = $2)
    AND ($3::text IS NULL OR state = $3)
    AND ($4::text[] IS NULL OR name = ANY ($4))
ORDER BY name

-- name: put_profile
-- Store a profile; it replaces the previous one and deletes the corrections of that.
WITH forgotten AS (DELETE FROM corrections WHERE variant = $1)
INSERT INTO profiles
    (variant, device, threads, load_s, memory_bytes, accuracy, accuracy_source, samples, latency, intercept_s, slope_s,
    fit_error, lengths, generation)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (variant) DO UPDATE SET
    device = excluded.device, threads = excluded.threads, load_s = excluded.load_s,
    memory_bytes = excluded.memory_bytes, accuracy = excluded.accuracy, accuracy_source = excluded.accuracy_source,
    samples = excluded.samples, latency = excluded.latency, intercept_s = excluded.intercept_s,
    slope_s = excluded.slope_s, fit_error = excluded.fit_error, lengths = excluded.lengths,
    generation = excluded.generation, created_at = now()

-- name: list_profiles
-- All profiles, filtered by task, architecture, variant names and variant state.
SELECT p.variant, p.device, p.threads, p.load_s, p.memory_bytes, p.accuracy, p.accuracy_source, p.samples, p.latency,
    p.intercept_s, p.slope_s, p.fit_error, p.lengths, p.generation, p.created_at
FROM profiles p JOIN variants v ON v.name = p.variant
WHERE ($1::text IS NULL OR v.task = $1)
    AND ($2::text IS NULL OR v.architecture = $2)
    AND ($3::text[] IS NULL OR v.name = ANY ($3))
    AND ($4::text IS NULL OR v.state = $4)
ORDER BY p.variant

-- name: put_correction
-- Store a worker's correction of a profile, unless the variant was measured again since.
INSERT INTO corrections (variant, worker, factor, since)
SELECT variant, $2, $3, now() - make_interval(secs => $4) FROM profiles WHERE variant = $1 AND created_at = $5
ON CONFLICT (variant, worker) DO UPDATE SET factor = excluded.factor, since = excluded.since

-- name: delete_correction
-- Delete a correction, because the profile is right on this worker.
DELETE FROM corrections WHERE variant = $1 AND worker = $2

-- name: list_corrections
-- Corrections of workers that have not retired, optionally of a variant and on a worker.
SELECT c.variant, c.worker, c.factor, c.since
FROM corrections c JOIN workers w ON w.name = c.worker
WHERE ($1::text IS NULL OR c.variant = $1)
    AND ($2::text IS NULL OR c.worker = $2)
    AND NOT w.retired
ORDER BY c.variant, c.worker
