"""Kafka, and the only package that speaks to it.

Reading order: settings (how to reach it) -> client (every aiokafka object is built there) -> kafka_types (what others
may import of aiokafka's) -> features (what a broker can do), reachability (whether it answers) -> topics (made and
waited for) -> producer -> fetch_pace (how long the broker may hold a fetch) -> delivery (records read at least once) ->
tail (only what comes next) -> request_reply -> dead_letters -> outbox (sends, retries, gives up) -> lag (how far groups
are behind) -> servers (brokers on this machine).
"""
