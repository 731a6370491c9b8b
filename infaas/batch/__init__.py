"""Batch jobs: offline inference over all rows of a large source, within limits, with each result written exactly once.

`infer_rows` is the library function; `infaas batch` runs a `BatchJob` over files.

Reading order: rows (rows, chunks and results; protocol of their source) -> sink (protocol of the output) -> asker
(queries of chunks in flight, and the search for failing rows) -> limits (deadline, cost and failures) -> job -> plan
(choice of the variant, and estimates) -> formats, file_sink (files) -> row_answers (rows and answers of a program) ->
table_rows (rows in envelopes, deleted rows) -> topic_records, topic_job (jobs from topic to topic, exactly once).
"""

from infaas.batch.row_answers import RowAnswer, infer_rows

__all__ = ["RowAnswer", "infer_rows"]
