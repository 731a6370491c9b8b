"""What people and programs use: the client library, the command line, and `infaas up`.

`from infaas.client import InfaasClient` is the library.

Reading order: client (the questions and answers) -> transport (what a way to ask must do) -> kafka_transport,
http_transport -> options, state (what `infaas up` is asked for, and what it tells others) -> child (a process that is
kept running) -> fleet (the workers) -> up (all of it) -> demo -> cli.
"""
