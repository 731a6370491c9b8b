"""From a model file to variants that can be chosen: checked, generated, verified, profiled and written down.

Reading order: registration (what is asked for) -> register (the way of a registration) -> source and signature (is the
file what it says) -> samples (inputs that calibrate and measure) -> plan and generators (which variants are made, and
how) -> measure (what is profiled) -> verify (which variants are refused) -> artifacts (where files are kept). Whatever
touches a model runs in a process of its own (step, child), since native code may crash and memory must be measured
from a clean start.
"""
