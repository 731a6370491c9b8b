"""Steps that touch a model. Each is plain data that runs in a process of its own.

Reading order: inspection (checks a file and reads its signature), adaptation (changes it so that it can be served),
input_bounds (limits of ids and lengths) -> exported_program (torch's archives), openvino_model -> generation,
generators (make a variant's file) -> mixing (tests whether lengths may share a batch) -> timing (rounds that agree),
uneven_timing (means, for batches of unequal work), cores (pins threads and measures their waiting) -> measurement
(profiles a variant) -> stage_outputs (computes outputs without profiling) -> verification (refuses variants; the one
pure step, which runs in place) -> step_environment (variables of a step), step_files (files of a step), isolation (runs
a step in a fresh process).
"""
