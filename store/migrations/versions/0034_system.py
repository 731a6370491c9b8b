"""Identity of the system that these tables belong to."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    """Run `0034_system.sql`."""
    run_script("0034_system")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("another system could use the same topics in Kafka")
