-- name: put_correction
-- Note what a worker has seen of a profile, unless it was measured anew meanwhile.
INSERT INTO corrections (variant, worker, factor, since)
SELECT variant, $2, $3, now() - make_interval(secs => $4) FROM profiles WHERE variant = $1 AND created_at = $5
ON CONFLICT (variant, worker) DO UPDATE SET factor = excluded.factor, since = excluded.since

-- name: delete_correction
-- A profile is right on a worker.
DELETE FROM corrections WHERE variant = $1 AND worker = $2

-- name: list_corrections
-- All of workers that have not retired, or that of a variant on a worker.
SELECT c.variant, c.worker, c.factor, c.since
FROM corrections c JOIN workers w ON w.name = c.worker
WHERE ($1::text IS NULL OR c.variant = $1)
    AND ($2::text IS NULL OR c.worker = $2)
    AND NOT w.retired
ORDER BY c.variant, c.worker
