"""Kafka, and the only package that speaks to it.

Reading order: setting_errors (what is wrong with settings) -> reply_stream (results straight back, beside Kafka) ->
settings (how to reach it) -> sasl_connections (sessions that end) -> client (every aiokafka object is built there) ->
kafka_types (what others may import of aiokafka's) -> features (what a broker can do), reachability (whether it answers)
-> topic_configs (how each kind of topic is kept) -> librdkafka_admin (requests that aiokafka has no method for) ->
config_api (single values of that) -> topics (made and waited for) -> acls, scram (who may do what with them, and how it
logs in) -> clock, broker_clocks (the brokers' time) -> compact_encoding (lengths in few bytes) -> encoded_request (what
we encode ourselves) -> producing (records in batches) -> producer -> fetch_pace (how long the broker may hold a fetch),
record_memory (bytes in flight) -> fetch (what partitions hold) -> delivery (records read at least once) -> tail (only
what comes next) -> system_claim (whose the topics are) -> linger (how long a query waits for others) -> request_reply
-> dead_letters -> reply_room (bounds what waits for a reply topic) -> undelivered (what follows from a failure) ->
letter_budget (bytes of dead letters) -> outbox (sends, retries, gives up) -> lag (how far groups are behind) ->
topic_logs (how large topics are, and cutting them off) -> segment_roll (segments of idle topics end) -> closed_topics
(which take nothing more) -> letters (dead letters sent again, or dropped) -> exactly_once (from topic to topic, in
transactions) -> servers (brokers on this machine).
"""
