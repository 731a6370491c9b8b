"""Jobs: stored queries and their results, which outlive the request and every process.

Gateways store jobs in Postgres by `submission`. The jobs service sends each job as a client would, reads the results
from a topic of its own, and notifies the job's webhook or reply topic. Several instances of the service share the work,
and each may be killed at any time: a job is sent again rather than lost, and only its first result is stored. The
structs of jobs are in `schemas.jobs`, the statements in `store.jobs`.

Reading order: submission (from gateways to Postgres, with the limit of unfinished jobs) -> settings -> outcomes (pure:
from a result to the end of a job) -> delivery (from Postgres to Kafka and back) -> cleanup (deadlines, lost jobs,
retention) -> webhooks (pure: URLs, addresses and events) -> notification (of ended jobs) -> metrics -> service ->
__main__.
"""
