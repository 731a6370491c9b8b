-- name: read_system_secret
-- The one secret that services of the system share.
SELECT secret FROM system_secret
