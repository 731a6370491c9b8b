-- True while it is being unregistered: it is not chosen any more, and its name cannot be registered until it is gone.
ALTER TABLE tasks ADD COLUMN removing boolean NOT NULL DEFAULT false


ALTER TABLE architectures ADD COLUMN removing boolean NOT NULL DEFAULT false


ALTER TABLE variants DROP CONSTRAINT variants_state_check


ALTER TABLE variants ADD CONSTRAINT variants_state_check
    CHECK (state IN ('generated', 'verified', 'ready', 'refused', 'removing'))


-- A running registration must not add to a task or architecture that is being unregistered. The lock on the parent row
-- serializes the two transactions, so that the later one sees the change of the earlier one.
CREATE FUNCTION refuse_while_removing() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    found boolean;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        found := CASE TG_TABLE_NAME
            WHEN 'variants' THEN to_jsonb(OLD) ->> 'state' = 'removing' AND to_jsonb(NEW) ->> 'state' <> 'removing'
            ELSE (to_jsonb(OLD) ->> 'removing')::boolean
        END;
    ELSIF TG_TABLE_NAME = 'variants' THEN
        SELECT a.removing INTO found FROM architectures a WHERE a.name = to_jsonb(NEW) ->> 'architecture' FOR SHARE;
    ELSIF TG_TABLE_NAME = 'architectures' THEN
        SELECT t.removing INTO found FROM tasks t WHERE t.name = to_jsonb(NEW) ->> 'task' FOR SHARE;
        found := found OR EXISTS (SELECT FROM architectures a WHERE a.name = NEW.name AND a.removing);
    ELSE
        SELECT t.removing INTO found FROM tasks t WHERE t.name = NEW.name;
    END IF;
    IF found THEN
        RAISE EXCEPTION '% is being unregistered: wait until that is done, and register it again', NEW.name
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$


CREATE TRIGGER refuse_while_removing BEFORE INSERT OR UPDATE ON tasks
    FOR EACH ROW EXECUTE FUNCTION refuse_while_removing()


CREATE TRIGGER refuse_while_removing BEFORE INSERT OR UPDATE ON architectures
    FOR EACH ROW EXECUTE FUNCTION refuse_while_removing()


CREATE TRIGGER refuse_while_removing BEFORE INSERT OR UPDATE ON variants
    FOR EACH ROW EXECUTE FUNCTION refuse_while_removing()
