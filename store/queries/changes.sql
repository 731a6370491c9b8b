-- name: changes_since
-- What was announced by transactions not yet over at the last look, and this look.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS seen,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_array(id, channel, payload)), '[]')
        FROM (SELECT id, channel, payload FROM changes WHERE xid >= $1::text::xid8 ORDER BY id LIMIT $2) AS found
    ) AS changes

-- name: share_kept
-- Which share of the server's connections is kept, not passing.
SELECT count(*)::float8 / current_setting('max_connections')::float8
FROM pg_stat_activity WHERE datid IS NOT NULL AND application_name <> 'infaas-passing'
