"""OpenAI's API under `/v1`, so that clients of OpenAI work unchanged: a translation, without limits of its own.

A call is a query like any other: `embeddings` and `rerank` become one query of an embedding task, and pass the same
checks, limits and refusals. A batch is a set of jobs, and a file is an upload. So `model` names a task, or an
architecture or variant to pin; needs are fields of the request beside OpenAI's own (`extra_body` of its client).

Chats and text completions are queries of generative tasks, whose answers come whole or in events as they are made.

Reading order: errors (OpenAI's form of an error) -> vectors (from texts and token ids to a query, from its result to
vectors) -> embeddings, rerank (request and response of each) -> models -> queries (routes) -> generation (requests of
chats and text completions) -> completions (their responses) -> completion_routes -> pages (of lists) -> files (routes)
-> lines (from a line of a batch to a job, from its result to a line) -> batch_files (input and output) -> batch_keeper
(background work) -> batches (routes) -> routes (all together).
"""
