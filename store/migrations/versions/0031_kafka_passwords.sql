-- Kafka's users whose password was set here, and is ours to change and to take back; no other's is.
CREATE TABLE kafka_passwords (
    kafka_user text COLLATE "C" PRIMARY KEY CHECK (kafka_user <> '')
)


INSERT INTO kafka_passwords SELECT DISTINCT kafka_user FROM tenants WHERE kafka_user <> ''
