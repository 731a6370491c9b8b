-- Whose a task or a model with all its versions is, and who may use it. What has no row is public and nobody's; a row
-- goes with the name.
CREATE TABLE access (
    name text PRIMARY KEY REFERENCES names (name) ON DELETE CASCADE,
    owner text,
    visibility text NOT NULL CHECK (visibility IN ('private', 'shared', 'public')),
    shared_with text[] NOT NULL DEFAULT '{}',
    CHECK (visibility = 'shared' OR shared_with = '{}')
)


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON access
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'name')


-- A model's name may outlive it: that of its first version, of which it had others. Whoever takes it begins anew.
CREATE FUNCTION forget_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM architectures WHERE model = OLD.model) THEN
        DELETE FROM access WHERE name = OLD.model;
    END IF;
    RETURN NULL;
END $$


CREATE TRIGGER forget_access AFTER DELETE ON architectures FOR EACH ROW EXECUTE FUNCTION forget_access()


-- A job is its tenant's; without one it is of those who have none.
ALTER TABLE jobs ADD COLUMN tenant text GENERATED ALWAYS AS (coalesce(headers ->> 'infaas-tenant', '')) STORED


CREATE INDEX jobs_of_tenant ON jobs (tenant, model, id)
