-- name: put_tenant
-- Create a tenant, or give it another user of Kafka; its partitions never become fewer. No row: it is being removed.
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
-- A tenant's topics have more partitions; they never have fewer.
UPDATE tenants SET partitions = $2 WHERE name = $1 AND partitions < $2

-- name: renew_key
-- Number of the tenant's key: the first, or another in the place of the one of this number, which becomes void by that.
-- No row: there is no such tenant.
-- Numbers are seconds since 2026, so that none comes again when a tenant is removed and created anew.
UPDATE tenants SET key_number = CASE WHEN key_number > 0 AND key_number IS DISTINCT FROM $2::int THEN key_number
    ELSE greatest(key_number + 1, extract(epoch FROM clock_timestamp() - timestamptz '2026-01-01 00:00Z')::int) END
    WHERE name = $1 AND NOT removing
RETURNING key_number

-- name: mark_tenant
-- A tenant is to go.
UPDATE tenants SET removing = true WHERE name = $1 AND NOT removing

-- name: delete_tenant
-- A tenant is gone.
DELETE FROM tenants WHERE name = $1

-- name: claim_password
-- The password of one of Kafka's users is ours to set.
INSERT INTO kafka_passwords (kafka_user) VALUES ($1) ON CONFLICT DO NOTHING

-- name: is_password_ours
-- Whether the password of one of Kafka's users is ours to set.
SELECT EXISTS (SELECT FROM kafka_passwords WHERE kafka_user = $1)

-- name: drop_password
-- The password of one of Kafka's users is no more.
DELETE FROM kafka_passwords WHERE kafka_user = $1
