"""What people and programs use: the client library, the command line, and `infaas up`.

`from infaas.client import InfaasClient` is the library: client (the questions and answers) over transport (what a way
to ask must do) by kafka_transport or http_transport.
"""
