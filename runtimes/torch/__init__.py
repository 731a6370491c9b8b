"""Torch: exported programs, made safe and then executed, compiled by inductor, or compiled ahead of time.

Reading order: size_expression, exported_graph, exported_archive (untrusted programs made safe) -> cuda_runner (modules
on a GPU) -> program (exported programs) -> aot (AOTInductor) -> inferentia (AWS Inferentia).
"""
