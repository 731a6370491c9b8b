"""Entry point of `python -m jobs`."""

import sys

from process.start import exit_on_signal

if __name__ == "__main__":
    exit_on_signal()  # before the slow imports
    from jobs.command import main

    sys.exit(main())
