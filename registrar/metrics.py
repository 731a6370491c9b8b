"""Metrics of a registrar."""

from typing import Final

from prometheus_client import Counter

ENDED: Final = Counter("infaas_registrar_processes_total", "Registration processes that ended, by outcome", ["how"])
SWEPT: Final = Counter("infaas_registrar_uploads_swept_total", "Expired uploads that were deleted")
