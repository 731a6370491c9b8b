-- Latency at other lengths than that of the samples; empty where no axis but the batch is dynamic.
ALTER TABLE profiles ADD COLUMN lengths jsonb NOT NULL DEFAULT '[]'
