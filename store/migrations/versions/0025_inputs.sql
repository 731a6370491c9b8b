-- What an architecture takes, beyond what its task says: the longest input, ids that are rows of a table.
ALTER TABLE architectures ADD COLUMN inputs jsonb NOT NULL DEFAULT '[]'
