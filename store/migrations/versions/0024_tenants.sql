-- Tenants that send queries over Kafka to topics of their own.
CREATE TABLE tenants (
    name text PRIMARY KEY,
    partitions integer NOT NULL CHECK (partitions > 0),
    kafka_user text NOT NULL DEFAULT '',
    key_number integer NOT NULL DEFAULT 0,
    removing boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
)


CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON tenants
    FOR EACH ROW EXECUTE FUNCTION notify_row('infaas_registry', 'name')
