"""Metrics of a jobs service."""

from typing import Final

from prometheus_client import Counter

SENT: Final = Counter("infaas_jobs_sent_total", "Jobs sent on their way, those sent again included", ["task"])
ENDED: Final = Counter("infaas_jobs_ended_total", "Jobs that ended, by state", ["state"])
AGAIN: Final = Counter("infaas_jobs_again_total", "Jobs put back to be sent again, by reason", ["reason"])
DROPPED: Final = Counter("infaas_jobs_results_dropped_total", "Results of no use to a job, by reason", ["reason"])
PRUNED: Final = Counter("infaas_jobs_pruned_total", "Results, and jobs, that were kept for long enough", ["what"])
NOTICES: Final = Counter("infaas_jobs_notices_total", "Attempts to tell of the end of a job, by outcome", ["outcome"])
