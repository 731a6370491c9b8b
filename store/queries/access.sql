-- name: list_access
-- Whose all that has an owner or is not public is, and who may use it, or of the named ones.
SELECT name, owner, visibility, shared_with FROM access WHERE $1::text[] IS NULL OR name = ANY ($1) ORDER BY name

-- name: begin_access
-- Say whose something new is, unless that is said already.
INSERT INTO access (name, owner, visibility, shared_with) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING

-- name: set_access
-- Say whose a task or a model is. No row: there is none of this name.
INSERT INTO access (name, owner, visibility, shared_with)
SELECT name, $2, $3, $4 FROM names WHERE name = $1
ON CONFLICT (name) DO UPDATE SET
    owner = excluded.owner, visibility = excluded.visibility, shared_with = excluded.shared_with
RETURNING name

-- name: lock_access
-- Let nobody else change who may use what until the transaction ends.
LOCK TABLE access IN SHARE ROW EXCLUSIVE MODE
