"""The words the parts speak: wire structs, row types, names, headers, topics and errors.

The lowest layer. Reading order: names -> errors -> headers -> topics -> needs -> query -> result -> status ->
latency -> records -> tensors -> oip. Nouns only: validation, but no I/O, no clock and no policy.
"""
