-- What makes a model's tensors of a text or an image; NULL where clients send its tensors.
ALTER TABLE architectures ADD COLUMN processing jsonb


-- Whether inputs of different lengths may share a batch, padded.
ALTER TABLE variants ADD COLUMN mixes_lengths boolean NOT NULL DEFAULT false
