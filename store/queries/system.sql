-- name: read_system
-- Identity of the system that the tables belong to.
SELECT id, namespace FROM system

-- name: claim_namespace
-- Store the namespace of the topics, unless another one is stored and $2 is false.
UPDATE system SET namespace = $1 WHERE namespace IN ('', $1) OR $2 RETURNING id, namespace

-- name: read_system_secret
-- The secret that the services of the system share.
SELECT secret FROM system_secret
