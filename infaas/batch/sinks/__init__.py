"""Output files of batch jobs.

Reading order: checkpoint (committed progress) -> output_format (abstract base class of the formats) -> json_output,
csv_output, npz_output, parquet_output -> output_formats (choice by the file name) -> file_sink.
"""
