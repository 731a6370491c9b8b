-- name: put_registration
-- Keep a registration that is asked for.
INSERT INTO registrations (id, kind, name, tenant, publisher, asked_by, origin, request, uploads)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: count_open
-- How many registrations of a tenant have not ended; whoever puts another waits for the end of this transaction.
SELECT count(*) FROM registrations WHERE tenant = $1 AND finished_at IS NULL

-- name: lock_tenant
-- Let what a tenant may have of something be counted by one transaction at a time.
SELECT pg_advisory_xact_lock(hashtextextended($1, 27))

-- name: claim_registration
-- One that nobody does, or whose registrar is silent: the oldest of who has the fewest under way. Of one publisher a
-- registrar does so many at most, and as many of those, whosever they are, that wait where there is no worker.
UPDATE registrations SET
    state = 'running', worker = $1, epoch = epoch + 1, attempts = attempts + 1, changed_at = clock_timestamp(),
    started_at = coalesce(started_at, clock_timestamp())
WHERE id = (
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
    LIMIT 1 FOR UPDATE OF r SKIP LOCKED
)
RETURNING id, epoch, attempts, crashes, reason

-- name: registration_to_do
-- What is to be done; no row: it was cancelled.
SELECT id, kind, tenant, publisher, asked_by, origin, request FROM registrations WHERE id = $1 AND state = 'running'

-- name: note_progress
-- Keep a claim, and note how far it is. No row: it was cancelled, or is another's.
UPDATE registrations SET
    changed_at = clock_timestamp(), steps_done = $3, steps_total = $4, doing = $5, notes = $6
WHERE id = $1 AND epoch = $2 AND state = 'running'

-- name: keep_claim
-- Keep a claim. No row: it was cancelled, or is another's.
UPDATE registrations SET changed_at = clock_timestamp() WHERE id = $1 AND epoch = $2 AND state = 'running'

-- name: end_registration
-- Note how it ended, unless it was cancelled or is another's. What was asked for, which may be long, goes.
UPDATE registrations SET
    state = $3, error = $4, error_code = $5, made = $6, doing = '', request = '{}', uploads = '{}', changed_at = clock_timestamp(), finished_at = clock_timestamp()
WHERE id = $1 AND epoch = $2 AND state = 'running'

-- name: release_registration
-- Give it back. An attempt that was only interrupted counts for nothing, however often that happens.
UPDATE registrations SET
    state = 'waiting', worker = '', doing = '', changed_at = clock_timestamp(),
    attempts = attempts - CASE WHEN $3 = '' THEN 1 ELSE 0 END,
    reason = CASE WHEN $3 = '' THEN reason ELSE $3 END, crashes = crashes + CASE WHEN $3 = '' THEN 0 ELSE 1 END
WHERE id = $1 AND epoch = $2 AND state = 'running'

-- name: cancel_registration
-- Cancel one that has not ended. What was asked for goes.
UPDATE registrations SET
    state = 'cancelled', doing = '', request = '{}', uploads = '{}', changed_at = clock_timestamp(), finished_at = clock_timestamp()
WHERE id = $1 AND finished_at IS NULL

-- name: get_registration
-- A registration, if it is the tenant's where one is given.
SELECT
    id, kind, name, tenant, asked_by, state, steps_done, steps_total, doing, notes, error, error_code, made, attempts, created_at,
    started_at, finished_at
FROM registrations
WHERE id = $1 AND ($2::text IS NULL OR tenant = $2)

-- name: list_registrations
-- Registrations, the latest first: all, or those of a tenant; without what may be long, which are notes and what was made.
SELECT
    id, kind, name, tenant, asked_by, state, steps_done, steps_total, doing, error, error_code, attempts, created_at, started_at,
    finished_at
FROM registrations
WHERE ($1::text IS NULL OR tenant = $1)
ORDER BY created_at DESC, id LIMIT $2

-- name: forget_registrations
-- Forget those that ended long ago.
DELETE FROM registrations WHERE finished_at < clock_timestamp() - make_interval(secs => $1)

-- name: reserve_upload
-- Take room for an upload that is to come, if the tenant's uploads leave it; of one that is there already it is used.
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
-- Give the room back of an upload that has not arrived.
DELETE FROM uploads WHERE tenant = $1 AND sha256 = $2 AND NOT arrived

-- name: upload_arrived
-- Note that all of an upload has come, if the tenant's uploads leave room for it, whatever became of what was taken.
INSERT INTO uploads (tenant, sha256, bytes, arrived)
SELECT $1, $2, $3::bigint, true
WHERE (
    SELECT coalesce(sum(bytes), 0)::bigint + $3::bigint <= $4::bigint AND count(*) < $5::bigint
    FROM uploads WHERE tenant = $1 AND sha256 <> $2
)
ON CONFLICT (tenant, sha256) DO UPDATE SET arrived = true, bytes = excluded.bytes, used_at = clock_timestamp()
RETURNING sha256, bytes, arrived, created_at, used_at

-- name: list_uploads
-- What a tenant has uploaded, the latest first; one alone, if it is named.
SELECT sha256, bytes, arrived, created_at, used_at FROM uploads
WHERE tenant = $1 AND ($2::text IS NULL OR sha256 = $2) ORDER BY created_at DESC, sha256 LIMIT $3

-- name: use_uploads
-- Note that uploads are needed from now on; returns those that are there.
UPDATE uploads SET used_at = clock_timestamp() WHERE tenant = $1 AND sha256 = ANY ($2::text[]) AND arrived
RETURNING sha256, bytes, arrived, created_at, used_at

-- name: upload_bytes
-- The bytes of all uploads of a tenant.
SELECT coalesce(sum(bytes), 0)::bigint FROM uploads WHERE tenant = $1

-- name: lock_uploads
-- Let nobody begin or use an upload until the transaction ends.
LOCK TABLE uploads IN SHARE ROW EXCLUSIVE MODE

-- name: take_unused_uploads
-- Forget uploads that nobody has used for so long, and no registration waits for; some at a time.
DELETE FROM uploads AS u WHERE (tenant, sha256) IN (
    SELECT tenant, sha256 FROM uploads AS o
    WHERE used_at < clock_timestamp() - make_interval(secs => $1)
        AND NOT EXISTS (
            SELECT 1 FROM registrations AS r
            WHERE r.finished_at IS NULL AND r.tenant = o.tenant AND o.sha256 = ANY (r.uploads)
        )
    LIMIT $2
)
RETURNING sha256, bytes, arrived, created_at, used_at

-- name: kept_uploads
-- Which of these files somebody has uploaded still; who only began to will keep it anew.
SELECT DISTINCT sha256 AS text FROM uploads WHERE sha256 = ANY ($1::text[]) AND arrived
