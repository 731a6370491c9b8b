-- One row: the id of the system that these tables belong to, and the namespace of its topics; empty until its first
-- start. The topic <namespace>.system in Kafka holds the same id, so that no other system uses its topics.
CREATE TABLE system (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id text NOT NULL DEFAULT gen_random_uuid()::text,
    namespace text NOT NULL DEFAULT ''
)


INSERT INTO system DEFAULT VALUES


-- Folder of a worker's data, beside its host: together they tell a restart from a second worker of the same name.
ALTER TABLE workers ADD COLUMN home text NOT NULL DEFAULT ''
