"""Metrics of a jobs service."""

from typing import Final

from prometheus_client import Counter

SENT: Final = Counter("infaas_jobs_sent_total", "Jobs sent, including retries", ["task"])
ENDED: Final = Counter("infaas_jobs_ended_total", "Jobs that ended, by state", ["state"])
RETRIES: Final = Counter("infaas_jobs_retries_total", "Jobs scheduled to be sent again, by reason", ["reason"])
DROPPED: Final = Counter("infaas_jobs_results_dropped_total", "Results that end no job, by reason", ["reason"])
PRUNED: Final = Counter("infaas_jobs_pruned_total", "Expired results and jobs deleted, by kind", ["kind"])
NOTICES: Final = Counter("infaas_jobs_notices_total", "Attempts to notify of ended jobs, by outcome", ["outcome"])
