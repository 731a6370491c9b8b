-- Steps that make a model's tensors from a text or an image; NULL: clients send the model's tensors.
ALTER TABLE architectures ADD COLUMN processing jsonb


-- True if inputs of different lengths may share a padded batch.
ALTER TABLE variants ADD COLUMN mixes_lengths boolean NOT NULL DEFAULT false
