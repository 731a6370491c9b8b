"""Tests of the commands that set access control lists."""

import shlex

from broker.kafka.access import acl_commands, tenant_acls


def test_acl_commands_quote_any_user_name() -> None:
    """A user of the admin API chooses the name, and an administrator of Kafka pastes the commands into a shell."""
    user = "User:o'x; touch /tmp/x $(id)"
    for command in acl_commands(tenant_acls("acme"), user, "kafka:9092"):
        words = shlex.split(command)
        assert words[words.index("--allow-principal") + 1] == user
        assert len(words) == len(shlex.split(acl_commands(tenant_acls("acme"), "User:x", "kafka:9092")[0]))
