"""`python -m process.probe`: exit code 0 if the service in this container is ready. For a HEALTHCHECK without curl.

It requests the URL in INFAAS_PROBE_URL; the default is the readiness path on the metrics port of the image.
"""

import os
import sys
from urllib.request import urlopen

_DEFAULT = "http://127.0.0.1:9100/health/ready"
_TIMEOUT_S = 2.0


def main() -> int:
    """Request the readiness URL once; return the exit code."""
    try:
        with urlopen(os.environ.get("INFAAS_PROBE_URL", _DEFAULT), timeout=_TIMEOUT_S) as answer:
            return 0 if answer.status == 200 else 1
    except OSError:  # HTTPError, raised for a status of 400 or more, is an OSError
        return 1


if __name__ == "__main__":
    sys.exit(main())
