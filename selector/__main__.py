"""Entry point of `python -m selector`."""

import sys

from process.start import leave_when_told

if __name__ == "__main__":
    leave_when_told()  # before the imports that take a second
    from selector.command import main

    sys.exit(main())
