"""The client library: `InfaasClient` asks a task by Kafka or by HTTP.

Reading order: client -> transport -> http_transport, kafka_transport.
"""

from infaas.client.client import Answer, InfaasClient

__all__ = ["Answer", "InfaasClient"]
