-- The quality measure of a task, its output and reference, and the names of the classes.
ALTER TABLE tasks
    ADD COLUMN measure text NOT NULL DEFAULT 'accuracy' CHECK (measure <> ''),
    ADD COLUMN measured_output text NOT NULL DEFAULT '',
    ADD COLUMN classes jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN reference text NOT NULL DEFAULT ''


-- Options of a registration besides its file: other values make another registration.
ALTER TABLE architectures ADD COLUMN made_with jsonb NOT NULL DEFAULT '{}'
