"""Runs an autoscaler: `python -m autoscaler`."""

import sys

from process.start import exit_on_signal

if __name__ == "__main__":
    exit_on_signal()  # before the slow imports
    from autoscaler.command import main

    sys.exit(main())
