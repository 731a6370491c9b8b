"""Entry point of `python -m selector`: the command line of a selector."""

import sys

from process.start import exit_on_signal


def main() -> int:
    """Run the service, or with `--check` test whether it could run. Return the exit code."""
    from registry.system_identity import run_service_command
    from selector.service import serve
    from selector.settings import SelectorSettings

    return run_service_command(
        "selector", SelectorSettings, lambda own, kafka, store, stop: serve(own, kafka, store.dsn, stop)
    )


if __name__ == "__main__":
    exit_on_signal()  # before the slow imports
    sys.exit(main())
