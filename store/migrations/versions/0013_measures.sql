-- How the quality of a task's answers is measured, on which output, against which reference; and the names of its classes.
ALTER TABLE tasks
    ADD COLUMN measure text NOT NULL DEFAULT 'accuracy' CHECK (measure <> ''),
    ADD COLUMN measured_output text NOT NULL DEFAULT '',
    ADD COLUMN classes jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN reference text NOT NULL DEFAULT ''


-- What a registration was asked for, beside its file: another value is another registration.
ALTER TABLE architectures ADD COLUMN made_with jsonb NOT NULL DEFAULT '{}'
