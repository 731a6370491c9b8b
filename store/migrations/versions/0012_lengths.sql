-- Latency at lengths other than that of the samples; empty: only the batch axis is dynamic.
ALTER TABLE profiles ADD COLUMN lengths jsonb NOT NULL DEFAULT '[]'
