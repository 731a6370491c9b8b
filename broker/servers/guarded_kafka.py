"""An Apache Kafka of our own that lets in only who says a password: for machines that others use, too.

* Nobody listens in at loopback who may not read every file anyway, so the password is said in clear (SASL/PLAIN), and
  there are no certificates to renew. It is in a file of its owner's alone, as is the configuration, which repeats it.
* The controller's port is guarded as the other one is: through it the cluster could be told anything.
* Whoever has the password may do everything. Others get users of their own, who may what they were allowed
  (`infaas tenants create --kafka-user NAME --scram`): Kafka keeps these itself.
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
    """Apache Kafka on 127.0.0.1 for who knows the password in `<home>/password`; otherwise as `ApacheKafka`."""

    def __init__(self, home: Path, port: int = 0) -> None:
        super().__init__(home, port, self._guarded_properties)
        self._password_file = home.absolute() / "password"

    @property
    def settings(self) -> KafkaSettings:
        """Settings that reach this broker, as who may do everything."""
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
    """Text of the configuration of one node that lets nobody in without a password, nor do what they may not."""
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
