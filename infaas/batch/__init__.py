"""Batch jobs: a task asked for every row of something large, offline, within bounds, to an output that is exact.

`infer_rows` is the library; `infaas batch` makes a `BatchJob` of files.

Reading order: rows (what passes through) -> source, sink (the two ends) -> asker (a chunk is asked for, and the row to
blame found) -> window (chunks in flight, results in order) -> limits (what a job may take) -> job -> plan (which
variant, and what it takes) -> sources, sinks (files) -> row_stream, row_answers (rows and answers of a program) ->
topics (from topic to topic).
"""

from infaas.batch.row_answers import RowAnswer, infer_rows

__all__ = ["RowAnswer", "infer_rows"]
