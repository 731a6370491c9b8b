-- name: read_system
-- The system that the tables belong to.
SELECT id, namespace FROM system

-- name: claim_namespace
-- Note the namespace of the topics, unless there is another one.
UPDATE system SET namespace = $1 WHERE namespace IN ('', $1) OR $2 RETURNING id, namespace
