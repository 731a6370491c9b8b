"""Access to Kafka: the only package that uses its protocol.

Reading order: setting_errors (describes wrong settings) -> reply_stream (results over direct connections, beside
Kafka) -> settings (address, security, limits) -> sasl_connections (sessions that expire) -> client (creates every
aiokafka object) -> kafka_types (aiokafka types for other packages) -> features (features of a broker), reachability
(health check) -> topic_configs (configuration by kind of topic) -> topic_lifecycle (creates topics, waits for them) ->
librdkafka_admin (requests that aiokafka lacks) -> config_api (single configuration values) -> topics (ensures the
topics of services) -> acls, scram (access control and passwords) -> clock, broker_clocks (time of the brokers) ->
compact_encoding (variable-length integers) ->
encoded_request (requests encoded by this package) -> producing (record batches) -> producer -> fetch_pace (longest
wait of a fetch), record_memory (bytes in flight) -> fetch (reads partitions) -> delivery (at-least-once consumer) ->
tail (reads new records only) -> system_claim (owner of a namespace) -> linger (delay for batching), online_arrivals
(whether online queries come) -> request_reply -> dead_letters -> reply_room (limits results per reply topic) ->
undelivered (decides about a failed send) -> letter_budget (bytes of dead letters) -> outbox (sends, retries, gives up)
-> lag (consumer lag) -> log_sizes (bytes on disk) -> topic_logs (ends of logs, deletion of records) -> segment_roll
(ends segments of idle topics)
-> closed_topics (refuse further records) -> letters (replays and drops dead letters) -> exactly_once (from topic to
topic, in transactions) -> servers (brokers on this machine).
"""
