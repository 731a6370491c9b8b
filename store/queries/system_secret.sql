-- name: read_system_secret
-- The secret that the services of the system share.
SELECT secret FROM system_secret
