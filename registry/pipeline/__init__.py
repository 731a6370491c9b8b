"""Steps that touch a model. Each is plain data that runs in a process of its own.

Reading order: source_format (recognises a file) -> inspection (checks it and reads its signature), adaptation (changes
it so that it can be served), decoder_file (an ONNX language model), input_bounds (limits of ids and lengths),
sequence_axes (outputs along a sequence) -> generation, generators (make a variant's file) -> timing (rounds that agree,
on quiet cores), timing_turn (one step times its model at a time), generation_timing (language models) -> measurement
(profiles a variant, or only computes its outputs) -> verification (chooses the measure, and refuses variants; the one
pure step, which runs in place) -> step_files (files of a step), step_process, isolation (runs a step in a fresh
process).
"""
