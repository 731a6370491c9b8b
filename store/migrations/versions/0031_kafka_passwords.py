"""Kafka users whose passwords this system manages."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    """Run `0031_kafka_passwords.sql`."""
    run_script("0031_kafka_passwords")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("nobody would know whose passwords in Kafka may be changed")
