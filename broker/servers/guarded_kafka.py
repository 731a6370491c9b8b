"""Apache Kafka with a password, for machines that others use, too.

* Only users who may read all files anyway can intercept the loopback interface. The password is therefore sent in clear
  (SASL/PLAIN), without certificates that would have to be renewed. Only its owner can read the file with the password,
  and the configuration, which repeats it.
* The controller's port requires the password, too: it gives access to the whole cluster.
* The password gives full access. Other people get users of their own with limited access, which Kafka itself stores
  (`infaas tenants create --kafka-user NAME --scram`).
"""

from pathlib import Path
from typing import Final

from broker.servers.apache import ApacheKafka, changed_properties, server_properties
from broker.settings import KafkaSettings, SaslMechanism, SecurityProtocol
from process.ports import LOOPBACK
from process.secret_file import keep_secret

USER: Final = "infaas"
_LOGIN: Final = "org.apache.kafka.common.security"


class GuardedKafka(ApacheKafka):
    """Apache Kafka on 127.0.0.1 that requires the password in `<home>/password`; otherwise as `ApacheKafka`."""

    def __init__(self, home: Path, port: int = 0) -> None:
        super().__init__(home, port, self._guarded_properties)
        self._password_file = home.absolute() / "password"

    @property
    def settings(self) -> KafkaSettings:
        """Settings that reach this broker with full access."""
        return KafkaSettings(
            bootstrap=self.bootstrap,
            security_protocol=SecurityProtocol.SASL_PLAINTEXT,
            sasl_mechanism=SaslMechanism.PLAIN,
            sasl_username=USER,
            sasl_password_file=self._password_file,
        )

    def _guarded_properties(self, data: Path, port: int, controller_port: int) -> str:
        return guarded_properties(keep_secret(self._password_file), data, port, controller_port)


def guarded_properties(password: str, data: Path, port: int, controller_port: int) -> str:
    """Return the configuration of one node that requires a password and checks ACLs."""
    plain = (
        f'{_LOGIN}.plain.PlainLoginModule required username="{USER}" password="{password}" user_{USER}="{password}";'
    )
    changed = {
        "listeners": f"CLIENTS://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"CLIENTS://{LOOPBACK}:{port}",
        "inter.broker.listener.name": "CLIENTS",
        "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "listener.name.clients.plain.sasl.jaas.config": plain,
        "listener.name.clients.scram-sha-512.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;",
        "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.controller.plain.sasl.jaas.config": plain,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{USER}",
    }
    return changed_properties(server_properties(data, port, controller_port), changed)
