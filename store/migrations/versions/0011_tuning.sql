-- Which calibration was kept, and how many layers stay in FP32; empty where there was nothing to choose.
ALTER TABLE variants ADD COLUMN tuning text NOT NULL DEFAULT ''
