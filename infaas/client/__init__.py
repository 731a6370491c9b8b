"""The client library: `InfaasClient` asks a task by Kafka or by HTTP.

Reading order: client (queries in, answers out) -> transport (what a way to ask must do) -> http_transport,
kafka_transport.
"""

from infaas.client.client import Answer, InfaasClient

__all__ = ["Answer", "InfaasClient"]
