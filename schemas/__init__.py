"""The words the parts speak: wire structs, row types, names, headers, topics and errors.

The lowest layer. Nouns only: validation, but no I/O, no clock and no policy.

Reading order: names, worker_names -> errors -> defaults -> headers -> topics -> needs -> query, cloudevents -> result
-> load_class, load (what is counted) -> status -> hardware, latency -> rows -> tensors -> oip -> documents.
"""
