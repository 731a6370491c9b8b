"""Latency of single answers, including answers around a crash.

Reading order: end_to_end (time of a small query against a bare program) -> offline (the same during a flood of offline
queries) -> tail (p99 over p50, delays of event loops) -> crash (processes killed under load).
"""
