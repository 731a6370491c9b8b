"""User interfaces of INFaaS: the client library, the command line, and `infaas up`.

Import the library as `from infaas.client import InfaasClient`.

Reading order: client (the library) -> batch (batch jobs over files and topics) -> up (the processes of `infaas up`, and
the queries of `infaas demo`) -> mcp (tasks as tools of agents) -> calibrate (the simulator beside a running system) ->
cli (the commands).
"""
