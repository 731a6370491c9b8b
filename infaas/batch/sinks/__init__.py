"""Files as sinks of results.

Reading order: checkpoint (how far a job came) -> output_format (what an output is made of) -> json_output, csv_output,
npz_output, parquet_output -> output_formats (which one, by the name) -> file_sink.
"""
