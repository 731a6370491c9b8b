-- The chosen calibration, and the number of layers in FP32; empty: there was no choice.
ALTER TABLE variants ADD COLUMN tuning text NOT NULL DEFAULT ''
