"""Jobs service: sends stored queries to Kafka and stores their results, which outlive the request and every process.

Gateways insert jobs into Postgres. This service sends each job as a client would, reads the results from a topic of its
own, and notifies the job's webhook or reply topic. Several instances of the service share the work, and each may be
killed at any time: a job is sent again rather than lost, and only its first result is stored.

Reading order: settings -> outcomes (pure: from a result to the end of a job) -> idle_pause, wake_up (polling) -> sender
(from Postgres to Kafka) -> results (from Kafka to Postgres) -> sweeper (deadlines, lost jobs, retention) -> events,
addresses, retries (pure: content, allowed addresses and retries of webhooks) -> webhook_client -> notices (notify of
ended jobs) -> metrics -> service -> command, __main__.
"""
