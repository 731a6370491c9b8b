"""Tests of `KafkaSettings`: errors name the invalid variable, and show no secret."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from broker.kafka.client import OAuthToken, client_options, new_consumer
from broker.kafka.settings import KafkaSettings, SaslMechanism, SecurityProtocol
from schemas.errors import OperatorError


def test_settings_are_read_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFAAS_KAFKA", "a:1,b:2")
    monkeypatch.setenv("INFAAS_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("INFAAS_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("INFAAS_KAFKA_SASL_USERNAME", "me")
    monkeypatch.setenv("INFAAS_KAFKA_SASL_PASSWORD", "hunter2")
    settings = KafkaSettings()
    options = client_options(settings, "test")
    assert options.get("bootstrap_servers") == "a:1,b:2"
    assert options.get("sasl_mechanism") == "SCRAM-SHA-512"
    assert options.get("sasl_plain_password") == "hunter2"
    context = options.get("ssl_context")
    assert context is not None
    assert context.check_hostname
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"bootstrap": "localhost"}, "host:port"),
        ({"bootstrap": "localhost:http"}, "host:port"),
        ({"bootstrap": "a..b:9092"}, "host:port"),
        ({"bootstrap": f"kafka:9092,{'x' * 64}:9092"}, "host:port"),
        ({"request_timeout_ms": "soon"}, "INFAAS_KAFKA_REQUEST_TIMEOUT_MS"),
        ({"compression": "rar"}, "INFAAS_KAFKA_COMPRESSION"),
        ({"security_protocol": "SASL_SSL"}, "set INFAAS_KAFKA_SASL_USERNAME"),
        ({"sasl_username": "me"}, "SECURITY_PROTOCOL is PLAINTEXT"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "set one of INFAAS_KAFKA_SASL_TOKEN"),
        ({"security_protocol": "SSL", "tls_key": Path(__file__)}, "belong together"),
        ({"security_protocol": "SSL", "tls_ca": Path("/no/such.pem")}, "is not a file"),
    ],
)
def test_settings_name_invalid_variable(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(OperatorError, match=says):
        KafkaSettings(**wrong)  # pyright: ignore[reportArgumentType]


def test_settings_error_hides_secret() -> None:
    with pytest.raises(OperatorError) as caught:
        KafkaSettings(bootstrap="x:1", sasl_password="hunter2")  # pyright: ignore[reportArgumentType]
    assert "hunter2" not in str(caught.value)


def test_client_options_name_invalid_certificate(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("not a certificate")
    settings = KafkaSettings(security_protocol=SecurityProtocol.SSL, tls_ca=ca)
    with pytest.raises(OperatorError, match=r"cannot use the TLS files .*ca\.pem"):
        client_options(settings, "test")


async def test_oauth_token_reads_file_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    settings = KafkaSettings(
        security_protocol=SecurityProtocol.SASL_PLAINTEXT,
        sasl_mechanism=SaslMechanism.OAUTHBEARER,
        sasl_token_file=file,
    )
    token = OAuthToken(settings)
    assert await token.token() == "first"
    file.write_text("second")
    assert await token.token() == "second"
    await new_consumer(settings, "test").stop()


async def test_oauth_token_returns_fixed_token(tmp_path: Path) -> None:
    settings = KafkaSettings(
        security_protocol=SecurityProtocol.SASL_PLAINTEXT,
        sasl_mechanism=SaslMechanism.OAUTHBEARER,
        sasl_token=SecretStr("for ever"),
    )
    assert await OAuthToken(settings).token() == "for ever"
