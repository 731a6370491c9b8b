"""What people and programs use: the client library, the command line, and `infaas up`.

`from infaas.client import InfaasClient` is the library.

Reading order: client (the library) -> batch (jobs over files and streams) -> supervisor (what `infaas up` starts and
watches) -> optional_zoo (the demo's models, where they are installed) -> demo (what `infaas demo` asks) -> cli (the
commands).
"""
