"""Metrics of a registrar."""

from typing import Final

from prometheus_client import Counter

ENDED: Final = Counter("infaas_registrar_processes_total", "Processes of registrations that ended, by how", ["how"])
SWEPT: Final = Counter("infaas_registrar_uploads_swept_total", "Uploads that nobody needed any more")
