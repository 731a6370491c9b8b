-- What was announced lately, for those who cannot afford a connection that listens.
CREATE TABLE changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- A reader asks for all since its last look by transaction: numbers are given before the commit, out of its order.
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    channel text NOT NULL,
    payload text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
)


CREATE INDEX changes_xid ON changes (xid)


CREATE FUNCTION announce(channel text, payload text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(channel, payload);
    INSERT INTO changes (channel, payload) VALUES (channel, payload);
    IF random() < 0.01 THEN
        DELETE FROM changes WHERE id IN (
            SELECT id FROM changes WHERE at < now() - interval '10 minutes' LIMIT 10000 FOR UPDATE SKIP LOCKED
        );
    END IF;
END $$


CREATE OR REPLACE FUNCTION notify_channel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM announce(TG_ARGV[0], TG_TABLE_NAME);
    RETURN NULL;
END $$


-- The table and the row's name; what writes the same again is no change.
CREATE FUNCTION notify_row() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed jsonb;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW IS NOT DISTINCT FROM OLD THEN
        RETURN NULL;
    END IF;
    changed := CASE WHEN TG_OP = 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    PERFORM announce(TG_ARGV[0], TG_TABLE_NAME || ' ' || (changed ->> TG_ARGV[1]));
    RETURN NULL;
END $$


DROP TRIGGER notify ON tasks


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON tasks
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'name')


DROP TRIGGER notify ON architectures


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON architectures
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'name')


DROP TRIGGER notify ON variants


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON variants
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'name')


DROP TRIGGER notify ON profiles


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON profiles
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'variant')
