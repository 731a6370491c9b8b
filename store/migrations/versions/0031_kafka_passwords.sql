-- Kafka users whose password this system has set. It may change and delete only these passwords.
CREATE TABLE kafka_passwords (
    kafka_user text COLLATE "C" PRIMARY KEY CHECK (kafka_user <> '')
)


INSERT INTO kafka_passwords SELECT DISTINCT kafka_user FROM tenants WHERE kafka_user <> ''
