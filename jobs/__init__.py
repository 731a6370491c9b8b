"""Jobs: keeps queries that outlive who asked them, sends them on their way, and keeps their results.

Gateways write jobs into Postgres; this service sends each as any client would, reads the results from a topic of its
own, and tells who wants to know. Any number of these services share the work, and each may be killed at any moment: a
job is sent again rather than lost, and its first result is the one that stays.

Reading order: settings -> outcomes (pure: what a result makes of a job) -> idle_pause, wake_up (when to look again) ->
sender (from Postgres to Kafka) -> results (from Kafka to Postgres) -> sweeper (deadlines, what is lost, what was kept
for long enough) -> events, addresses, retries (pure: what a webhook is sent, where it may go, when again) ->
webhook_client -> notices (tells that jobs have ended) -> metrics -> service -> command, __main__.
"""
