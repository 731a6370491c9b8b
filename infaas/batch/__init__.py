"""Batch jobs: offline inference over all rows of a large source, within limits, with each result written exactly once.

`infer_rows` is the library function; `infaas batch` runs a `BatchJob` over files.

Reading order: rows (rows, chunks and results) -> source, sink (protocols of input and output) -> asker (queries of a
chunk, and the search for failing rows) -> window (chunks in flight, results in order) -> limits (deadline, cost and
failures) -> job -> plan (choice of the variant, and estimates) -> sources, sinks (files) -> row_stream, row_answers
(rows and answers of a program) -> topics (jobs from topic to topic).
"""

from infaas.batch.row_answers import RowAnswer, infer_rows

__all__ = ["RowAnswer", "infer_rows"]
