"""Vocabulary that all packages share: wire structs, row types, names, headers, topics and errors.

This is the lowest layer. It holds nouns only: validation, but no I/O, no clock and no policy.

Reading order: names -> access (callers, and owners of models) -> errors -> defaults -> headers -> trace_context (W3C)
-> topics -> query_names (reserved and misspelt names) -> query (needs and send time), cloudevents -> result -> jobs
(queries that outlive their request) -> load_classes (load counts), answer_times (their histograms), offline_share
(pace of offline queries) -> urgency (levels of waiting work), status -> hardware, latency -> signature (specifications
of tensors) -> tensors -> oip -> generation, generation_options, answer_lengths, generation_model (generative tasks,
options of queries, learned lengths of answers, times of variants) -> generated_answer (their answers) -> rows
(Postgres rows) -> openai, openai_generation (OpenAI's API) -> registrations (requests to register models) -> versions
-> catalog (all that is registered, as one value) -> documents (the wire contract for machines).
"""
