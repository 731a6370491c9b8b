"""The steps that touch a model, each plain data that runs in a process of its own.

Reading order: inspection (is the file what it says), adaptation (what is done to it), input_bounds (what it takes) ->
exported_program (torch's archives), openvino_model -> generation, generators (how a variant's file is made) -> mixing
(may lengths share a batch) -> timing (rounds that agree), uneven_timing (a mean, where no two batches are alike), cores
(which ones, and who else used them) -> measurement (what is profiled) -> stage_outputs (what is computed and not
profiled) -> verification (which variants are refused; the one step that is pure and runs in place) -> step_environment
(which variables a step gets), step_files (which files), isolation (how it runs in a fresh process).
"""
