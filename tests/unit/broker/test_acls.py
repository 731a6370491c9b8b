"""What is told of access control lists."""

import shlex

from broker.acls import acl_commands, tenant_acls


def test_commands_do_nothing_else_whatever_a_user_is_called() -> None:
    """Who may make tenants over the admin API chooses the name; whoever looks after Kafka pastes the commands."""
    user = "User:o'x; touch /tmp/x $(id)"
    for command in acl_commands(tenant_acls("acme"), user, "kafka:9092"):
        words = shlex.split(command)
        assert words[words.index("--allow-principal") + 1] == user
        assert len(words) == len(shlex.split(acl_commands(tenant_acls("acme"), "User:x", "kafka:9092")[0]))
