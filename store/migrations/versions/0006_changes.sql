-- Recent notifications, for processes that do not keep a listening connection.
CREATE TABLE changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Readers select by transaction, not by id: ids are assigned before the commit and in a different order.
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


-- Payload: the table and the row's name. An update that changes nothing does not notify.
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
