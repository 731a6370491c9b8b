-- name: put_key
-- Store a new key; return its creation time.
INSERT INTO api_keys
    (id, secret_hash, certificate, tenant, roles, tasks, per_second, concurrent, note, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5::text[], $6::text[], $7, $8, $9, $10, $11)
RETURNING created_at

-- name: list_keys
-- All keys, those with these ids, or those of a tenant; newest last.
SELECT
    id, secret_hash, certificate, tenant, roles, tasks, per_second, concurrent, note, created_by, created_at, expires_at,
    revoked_at
FROM api_keys
WHERE ($1::text[] IS NULL OR id = ANY ($1)) AND ($2::text IS NULL OR tenant = $2)
ORDER BY created_at, id

-- name: revoke_keys
-- Revoke keys; return those that were not revoked before.
UPDATE api_keys SET revoked_at = clock_timestamp() WHERE id = ANY ($1::text[]) AND revoked_at IS NULL RETURNING id

-- name: set_quota
-- Set the quota of a key. No row: the key does not exist or is no longer valid.
UPDATE api_keys SET per_second = $2, concurrent = $3
WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
RETURNING
    id, secret_hash, certificate, tenant, roles, tasks, per_second, concurrent, note, created_by, created_at, expires_at,
    revoked_at

-- name: admin_keys_left
-- Number of administrators' keys that are valid.
SELECT count(*)::int FROM api_keys
WHERE 'admin' = ANY (roles) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
