"""Tests of the configuration of a Kafka that requires a password."""

from pathlib import Path

from broker.kafka.servers.apache import guarded_properties


def test_guarded_properties_require_password_on_each_port(tmp_path: Path) -> None:
    lines = guarded_properties("hush", tmp_path, 9092, 9093).splitlines()
    said = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert len(said) == len([line for line in lines if not line.startswith("#")]), "each is said once"
    doors = [door.partition("://")[0] for door in said["listeners"].split(",")]
    assert dict(door.split(":") for door in said["listener.security.protocol.map"].split(",")) == dict.fromkeys(
        doors, "SASL_PLAINTEXT"
    )
    for door in doors:
        assert 'user_infaas="hush"' in said[f"listener.name.{door.lower()}.plain.sasl.jaas.config"]
    assert said["super.users"] == "User:infaas"
    assert "authorizer.class.name" in said
    assert "allow.everyone.if.no.acl.found" not in said
