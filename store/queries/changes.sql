-- name: changes_since
-- Changes by transactions that were still running at the previous call, and the bound for the next call.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS seen,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_array(id, channel, payload)), '[]')
        FROM (SELECT id, channel, payload FROM changes WHERE xid >= $1::text::xid8 ORDER BY id LIMIT $2) AS found
    ) AS changes

-- name: share_kept
-- Share of the server's connections that are not marked as passing.
SELECT count(*)::float8 / current_setting('max_connections')::float8
FROM pg_stat_activity WHERE datid IS NOT NULL AND application_name <> 'infaas-passing'
