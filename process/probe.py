"""`python -m process.probe`: exit code 0 if the service in this container is ready. For a HEALTHCHECK without curl.

It asks INFAAS_PROBE_URL, by default the metrics port of the image.
"""

import os
import sys
from urllib.request import urlopen

_DEFAULT = "http://127.0.0.1:9100/health/ready"
_TIMEOUT_S = 2.0


def main() -> int:
    """Ask once whether the service is ready; returns the exit code."""
    try:
        with urlopen(os.environ.get("INFAAS_PROBE_URL", _DEFAULT), timeout=_TIMEOUT_S) as answer:
            return 0 if answer.status == 200 else 1
    except OSError:  # an HTTP status of 400 and more is one too
        return 1


if __name__ == "__main__":
    sys.exit(main())
