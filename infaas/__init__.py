"""User interfaces of INFaaS: the client library, the command line, and `infaas up`.

Import the library as `from infaas.client import InfaasClient`.

Reading order: client (the library) -> batch (batch jobs over files and topics) -> supervisor (the processes of `infaas
up`) -> optional_zoo (the demo models, if installed) -> demo (the queries of `infaas demo`) -> cli (the commands).
"""
