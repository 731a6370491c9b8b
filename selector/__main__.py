"""Entry point of `python -m selector`."""

import sys

from process.start import exit_on_signal

if __name__ == "__main__":
    exit_on_signal()  # before the slow imports
    from selector.command import main

    sys.exit(main())
