-- name: put_correction
-- Store a worker's correction of a profile, unless the variant was measured again since.
INSERT INTO corrections (variant, worker, factor, since)
SELECT variant, $2, $3, now() - make_interval(secs => $4) FROM profiles WHERE variant = $1 AND created_at = $5
ON CONFLICT (variant, worker) DO UPDATE SET factor = excluded.factor, since = excluded.since

-- name: delete_correction
-- Delete a correction, because the profile is right on this worker.
DELETE FROM corrections WHERE variant = $1 AND worker = $2

-- name: list_corrections
-- Corrections of workers that have not retired, optionally of a variant and on a worker.
SELECT c.variant, c.worker, c.factor, c.since
FROM corrections c JOIN workers w ON w.name = c.worker
WHERE ($1::text IS NULL OR c.variant = $1)
    AND ($2::text IS NULL OR c.worker = $2)
    AND NOT w.retired
ORDER BY c.variant, c.worker
