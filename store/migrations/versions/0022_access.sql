-- Owner and visibility of a task, or of a model with all its versions. A name without a row is public and has no owner;
-- the row is deleted with the name.
CREATE TABLE access (
    name text PRIMARY KEY REFERENCES names (name) ON DELETE CASCADE,
    owner text,
    visibility text NOT NULL CHECK (visibility IN ('private', 'shared', 'public')),
    shared_with text[] NOT NULL DEFAULT '{}',
    CHECK (visibility = 'shared' OR shared_with = '{}')
)


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON access
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'name')


-- The name of a model's first version may stay in use after the model is deleted. A new owner of the name starts
-- without the old access row.
CREATE FUNCTION forget_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM architectures WHERE model = OLD.model) THEN
        DELETE FROM access WHERE name = OLD.model;
    END IF;
    RETURN NULL;
END $$


CREATE TRIGGER forget_access AFTER DELETE ON architectures FOR EACH ROW EXECUTE FUNCTION forget_access()


-- Tenant of the job; empty: none.
ALTER TABLE jobs ADD COLUMN tenant text GENERATED ALWAYS AS (coalesce(headers ->> 'infaas-tenant', '')) STORED


CREATE INDEX jobs_of_tenant ON jobs (tenant, model, id)
