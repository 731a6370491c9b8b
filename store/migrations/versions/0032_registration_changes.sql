-- A registrar that looks for one to claim, and finds none, changes nothing: it was woken by its own look, again and again.
DROP TRIGGER notify ON registrations


CREATE TRIGGER notify AFTER INSERT OR UPDATE OF state ON registrations
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registrations', 'id')
