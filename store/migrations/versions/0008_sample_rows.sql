-- SHA-256 of the file with inputs that the model was verified with; empty: none were kept.
ALTER TABLE architectures ADD COLUMN sample_rows text NOT NULL DEFAULT ''
