"""Entry point of `python -m registrar`."""

import sys

from process.start import exit_on_signal

if __name__ == "__main__":
    exit_on_signal()  # before the imports that take a second
    from registrar.command import main

    sys.exit(main())
