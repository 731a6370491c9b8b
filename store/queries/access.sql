-- name: list_access
-- Owners and visibility of all tasks and models that have an owner or are not public, or of the named ones.
SELECT name, owner, visibility, shared_with FROM access WHERE $1::text[] IS NULL OR name = ANY ($1) ORDER BY name

-- name: begin_access
-- Set the access of a new name, unless it is set already.
INSERT INTO access (name, owner, visibility, shared_with) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING

-- name: set_access
-- Set the access of a task or model. No row: the name does not exist.
INSERT INTO access (name, owner, visibility, shared_with)
SELECT name, $2, $3, $4 FROM names WHERE name = $1
ON CONFLICT (name) DO UPDATE SET
    owner = excluded.owner, visibility = excluded.visibility, shared_with = excluded.shared_with
RETURNING name

-- name: lock_access
-- Block changes of access by others until the transaction ends.
LOCK TABLE access IN SHARE ROW EXCLUSIVE MODE
