"""Tenants that send queries over Kafka to topics of their own."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Run `0024_tenants.sql`."""
    run_script("0024_tenants")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("nobody would read the topics of tenants any more")
