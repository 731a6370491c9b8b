-- Input limits of an architecture beyond those of its task: maximum length, and range of ids that index a table.
ALTER TABLE architectures ADD COLUMN inputs jsonb NOT NULL DEFAULT '[]'
