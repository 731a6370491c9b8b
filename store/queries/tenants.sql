-- name: put_tenant
-- Create a tenant, or change its Kafka user; its partitions never decrease. No row: it is being removed.
INSERT INTO tenants AS t (name, partitions, kafka_user) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET
    partitions = greatest(t.partitions, excluded.partitions),
    kafka_user = coalesce(nullif(excluded.kafka_user, ''), t.kafka_user)
    WHERE NOT t.removing
RETURNING name

-- name: list_tenants
-- All tenants, or the named ones.
SELECT name, partitions, kafka_user, key_number, removing, created_at FROM tenants
WHERE $1::text[] IS NULL OR name = ANY ($1)
ORDER BY name

-- name: grow_tenant
-- Increase the number of partitions of a tenant's topics; it never decreases.
UPDATE tenants SET partitions = $2 WHERE name = $1 AND partitions < $2

-- name: renew_key
-- Number of the tenant's key; a new one if the present one is 0 or $2, which is thereby revoked. No row: no such
-- tenant. Numbers are seconds since 2026, so that a tenant that is removed and created again gets no number twice.
UPDATE tenants SET key_number = CASE WHEN key_number > 0 AND key_number IS DISTINCT FROM $2::int THEN key_number
    ELSE greatest(key_number + 1, extract(epoch FROM clock_timestamp() - timestamptz '2026-01-01 00:00Z')::int) END
    WHERE name = $1 AND NOT removing
RETURNING key_number

-- name: mark_tenant
-- Mark a tenant for removal.
UPDATE tenants SET removing = true WHERE name = $1 AND NOT removing

-- name: delete_tenant
-- Delete a tenant.
DELETE FROM tenants WHERE name = $1

-- name: claim_password
-- Record that this system manages the password of a Kafka user.
INSERT INTO kafka_passwords (kafka_user) VALUES ($1) ON CONFLICT DO NOTHING

-- name: is_password_ours
-- True if this system manages the password of a Kafka user.
SELECT EXISTS (SELECT FROM kafka_passwords WHERE kafka_user = $1)

-- name: drop_password
-- Record that this system no longer manages the password of a Kafka user.
DELETE FROM kafka_passwords WHERE kafka_user = $1

-- name: list_access
-- Owners and visibility of all tasks and models that have an owner or are not public, or of the named ones.
SELECT name, owner, visibility, shared_with FROM access WHERE $1::text[] IS NULL OR name = ANY ($1) ORDER BY name

-- name: begin_access
-- Set the access of a new name, unless it is set already.
INSERT INTO access (name, owner, visibility, shared_with) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING

-- name: set_access
-- Set the access of a task or model. No row: the name does not exist.
INSERT INTO access (name, owner, visibility, shared_with)
SELECT name, $2, $3, $4 FROM names WHERE name = $1
ON CONFLICT (name) DO UPDATE SET
    owner = excluded.owner, visibility = excluded.visibility, shared_with = excluded.shared_with
RETURNING name

-- name: lock_access
-- Block changes of access by others until the transaction ends.
LOCK TABLE access IN SHARE ROW EXCLUSIVE MODE
