-- The name of a variant for several CPU cores ends in their number: `mlp.onnx-fp32.cpu2`.
ALTER TABLE variants DROP CONSTRAINT variants_check


ALTER TABLE variants ADD CONSTRAINT variants_check
    CHECK (regexp_replace(name, '[0-9]+$', '') LIKE architecture || '.%.' || hardware)
