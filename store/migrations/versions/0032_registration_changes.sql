-- With the statement trigger, a registrar that claims nothing is notified by its own statement and wakes endlessly.
DROP TRIGGER notify ON registrations


CREATE TRIGGER notify AFTER INSERT OR UPDATE OF state ON registrations
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registrations', 'id')
