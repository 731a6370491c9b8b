"""Entry point of the registrar, `python -m registry.service`."""

import sys

from process.start import exit_on_signal

if __name__ == "__main__":
    exit_on_signal()  # before the slow imports
    from registry.service.service import main

    sys.exit(main())
