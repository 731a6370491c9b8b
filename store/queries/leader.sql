-- name: lock_holder
-- Connection that holds an advisory lock with a two-number key.
SELECT s.application_name, coalesce(host(s.client_addr), 'this machine') AS address
FROM pg_locks AS l JOIN pg_stat_activity AS s USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = $1::bigint::oid AND l.objid = $2::bigint::oid
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
