"""Dispatch of queries: reads records, and sends forwarded queries, error results and demands.

Reading order: load_meter (load for the autoscaler), metrics (counters) -> explanation (of a choice), spans (of sampled
queries) -> dispatcher (steps that both dispatchers share) -> fetch_delay -> online -> held_queries (limits and turns of
offline queries) -> offline.
"""
