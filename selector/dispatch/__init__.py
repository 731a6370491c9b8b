"""Dispatch of queries: reads records, and sends forwarded queries, error results and demands.

Reading order: metrics (counters, load report) -> explanation (of a choice) -> dispatcher (steps that both dispatchers
share) -> online, offline.
"""
