"""From a model file to variants that can be chosen: checked, generated, verified, profiled and written down.

Whatever touches a model runs in a process of its own, since native code may crash and memory must be measured from a
clean start.

Reading order: registration (what is asked for) -> register (the way of a registration) -> source, signature, exported
(is the file what it says) -> samples (inputs that calibrate and measure) -> plan, generators (which variants are made,
and how) -> memory, measure (what is profiled) -> verify (which variants are refused) -> step, child (the process that
touches the model) -> artifacts (where files are kept), rows, topics (what is written down and made).
"""
