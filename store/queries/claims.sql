-- Statements for the rows of any table of `store/claims.py`, which replaces the names in braces.

-- name: claim
-- Claim the first row of `claimable`.
UPDATE {table} SET
    state = 'running', worker = $1, epoch = epoch + 1, attempts = attempts + 1, changed_at = clock_timestamp(){more}
WHERE id = ({claimable} LIMIT 1 FOR UPDATE OF r SKIP LOCKED)
RETURNING {columns}

-- name: renew
-- Renew a claim. No row: the claim is lost, or the row has ended.
UPDATE {table} SET changed_at = clock_timestamp(){more} WHERE id = $1 AND epoch = $2 AND state = 'running'

-- name: complete
-- End a claimed row in the state $3. No row: as for `renew`.
UPDATE {table} SET state = $3, changed_at = clock_timestamp(){more} WHERE id = $1 AND epoch = $2 AND state = 'running'

-- name: release
-- Release a row with the reason for the end of the attempt; an interruption (no reason) does not count as an attempt.
UPDATE {table} SET
    state = 'waiting', worker = '', changed_at = clock_timestamp(),
    attempts = attempts - CASE WHEN $3 = '' THEN 1 ELSE 0 END, reason = CASE WHEN $3 = '' THEN reason ELSE $3 END{more}
WHERE id = $1 AND epoch = $2 AND state = 'running'
