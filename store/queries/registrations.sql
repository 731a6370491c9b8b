-- name: put_registration
-- Store a requested registration.
INSERT INTO registrations (id, kind, name, tenant, publisher, asked_by, origin, request, uploads)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: count_open
-- Number of a tenant's registrations that have not ended; call it under the lock of `lock_tenant`.
SELECT count(*) FROM registrations WHERE tenant = $1 AND finished_at IS NULL

-- name: lock_tenant
-- Serialize transactions that check a tenant's limits.
SELECT pg_advisory_xact_lock(hashtextextended($1, 27))

-- name: claimable
-- Registrations that wait, or whose registrar is silent: oldest first, of the tenant with the fewest running.
-- A registrar runs at most $3 registrations of one publisher, and at most $3 of any tenants that wait for a worker.
SELECT r.id FROM registrations AS r
WHERE r.finished_at IS NULL
    AND (r.state = 'waiting' OR r.changed_at < clock_timestamp() - make_interval(secs => $2))
    AND (NOT r.publisher OR $3::bigint > (
        SELECT count(*) FROM registrations AS o
        WHERE o.finished_at IS NULL AND o.state = 'running' AND o.worker = $1 AND o.tenant = r.tenant AND o.publisher
            AND o.id <> r.id
    ))
    AND (r.request ->> 'if_no_worker' IS DISTINCT FROM 'wait' OR $3::bigint > (
        SELECT count(*) FROM registrations AS o
        WHERE o.finished_at IS NULL AND o.state = 'running' AND o.worker = $1
            AND o.request ->> 'if_no_worker' = 'wait' AND o.id <> r.id
    ))
ORDER BY (
    SELECT count(*) FROM registrations AS o
    WHERE o.finished_at IS NULL AND o.state = 'running' AND o.tenant = r.tenant
), r.created_at

-- name: on_claim
-- Time of the first claim.
started_at = coalesce(started_at, clock_timestamp())

-- name: on_renew
-- Progress of a registration.
steps_done = $3, steps_total = $4, doing = $5, notes = $6

-- name: on_complete
-- Outcome of a registration. The request, which may be long, is deleted.
error = $4, error_code = $5, made = $6, doing = '', request = '{}', uploads = '{}', finished_at = clock_timestamp()

-- name: on_release
-- A reason is the reason of a crash.
doing = '', crashes = crashes + CASE WHEN $3 = '' THEN 0 ELSE 1 END

-- name: registration_to_do
-- Data of a claimed registration. No row: it was cancelled.
SELECT id, kind, tenant, publisher, asked_by, origin, request FROM registrations WHERE id = $1 AND state = 'running'

-- name: cancel_registration
-- Cancel a registration that has not ended, and delete its request.
UPDATE registrations SET
    state = 'cancelled', doing = '', request = '{}', uploads = '{}', changed_at = clock_timestamp(), finished_at = clock_timestamp()
WHERE id = $1 AND finished_at IS NULL

-- name: get_registration
-- A registration, optionally only if it belongs to a tenant.
SELECT
    id, kind, name, tenant, asked_by, state, steps_done, steps_total, doing, notes, error, error_code, made, attempts, created_at,
    started_at, finished_at
FROM registrations
WHERE id = $1 AND ($2::text IS NULL OR tenant = $2)

-- name: list_registrations
-- Registrations, newest first, optionally of a tenant; without notes and results, which may be long.
SELECT
    id, kind, name, tenant, asked_by, state, steps_done, steps_total, doing, error, error_code, attempts, created_at, started_at,
    finished_at
FROM registrations
WHERE ($1::text IS NULL OR tenant = $1)
ORDER BY created_at DESC, id LIMIT $2

-- name: forget_registrations
-- Delete registrations that ended long ago.
DELETE FROM registrations WHERE finished_at < clock_timestamp() - make_interval(secs => $1)

-- name: reserve_upload
-- Reserve space for an upload within the tenant's limits, or mark an existing upload as used.
INSERT INTO uploads AS u (tenant, sha256, bytes)
SELECT $1, $2, $3::bigint
WHERE (
    SELECT coalesce(sum(bytes), 0)::bigint + $3::bigint <= $4::bigint AND count(*) < $5::bigint
    FROM uploads WHERE tenant = $1 AND sha256 <> $2
)
ON CONFLICT (tenant, sha256) DO UPDATE SET
    used_at = clock_timestamp(), bytes = CASE WHEN u.arrived THEN u.bytes ELSE excluded.bytes END
RETURNING sha256, bytes, arrived, created_at, used_at

-- name: give_up_upload
-- Cancel the reservation of an upload that has not arrived.
DELETE FROM uploads WHERE tenant = $1 AND sha256 = $2 AND NOT arrived

-- name: upload_arrived
-- Mark an upload as complete if it fits the tenant's limits; its reservation may be gone.
INSERT INTO uploads (tenant, sha256, bytes, arrived)
SELECT $1, $2, $3::bigint, true
WHERE (
    SELECT coalesce(sum(bytes), 0)::bigint + $3::bigint <= $4::bigint AND count(*) < $5::bigint
    FROM uploads WHERE tenant = $1 AND sha256 <> $2
)
ON CONFLICT (tenant, sha256) DO UPDATE SET arrived = true, bytes = excluded.bytes, used_at = clock_timestamp()
RETURNING sha256, bytes, arrived, created_at, used_at

-- name: list_uploads
-- A tenant's uploads, newest first, or a single one.
SELECT sha256, bytes, arrived, created_at, used_at FROM uploads
WHERE tenant = $1 AND ($2::text IS NULL OR sha256 = $2) ORDER BY created_at DESC, sha256 LIMIT $3

-- name: use_uploads
-- Mark uploads as used; return those that are complete.
UPDATE uploads SET used_at = clock_timestamp() WHERE tenant = $1 AND sha256 = ANY ($2::text[]) AND arrived
RETURNING sha256, bytes, arrived, created_at, used_at

-- name: upload_bytes
-- Total bytes of a tenant's uploads.
SELECT coalesce(sum(bytes), 0)::bigint FROM uploads WHERE tenant = $1

-- name: lock_uploads
-- Block new uploads and uses of uploads until the transaction ends.
LOCK TABLE uploads IN SHARE ROW EXCLUSIVE MODE

-- name: take_unused_uploads
-- Delete some uploads that were not used for some time and that no open registration and no file needs.
DELETE FROM uploads AS u WHERE (tenant, sha256) IN (
    SELECT tenant, sha256 FROM uploads AS o
    WHERE used_at < clock_timestamp() - make_interval(secs => $1)
        AND NOT EXISTS (
            SELECT 1 FROM registrations AS r
            WHERE r.finished_at IS NULL AND r.tenant = o.tenant AND o.sha256 = ANY (r.uploads)
        )
        AND NOT EXISTS (SELECT 1 FROM files AS f WHERE f.tenant = o.tenant AND f.sha256 = o.sha256)
    LIMIT $2
)
RETURNING sha256, bytes, arrived, created_at, used_at

-- name: kept_uploads
-- Files of these that a tenant still has as a complete upload; an incomplete upload writes its file again.
SELECT DISTINCT sha256 AS text FROM uploads WHERE sha256 = ANY ($1::text[]) AND arrived
