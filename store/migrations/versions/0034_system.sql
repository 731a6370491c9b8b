-- One row: the id of the system that these tables belong to, and the namespace of its topics (empty until the first
-- start). The topic <namespace>.system in Kafka contains the same id, so that no other system uses the topics.
CREATE TABLE system (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id text NOT NULL DEFAULT gen_random_uuid()::text,
    namespace text NOT NULL DEFAULT ''
)


INSERT INTO system DEFAULT VALUES


-- Data folder of a worker. With the host it distinguishes a restart from a second worker of the same name.
ALTER TABLE workers ADD COLUMN home text NOT NULL DEFAULT ''
