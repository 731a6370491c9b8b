-- name: changes_since
-- What was announced by transactions that were not yet over at the last look, this look, and how full the server is.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS seen,
    (SELECT sum(numbackends) FROM pg_stat_database)::float8 / current_setting('max_connections')::float8 AS used,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_array(id, channel, payload)), '[]')
        FROM (SELECT id, channel, payload FROM changes WHERE xid >= $1::text::xid8 ORDER BY id LIMIT $2) AS found
    ) AS changes
