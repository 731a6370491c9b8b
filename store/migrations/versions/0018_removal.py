"""Marks on tasks, architectures and variants that are being unregistered, and a guard against their registration."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Run `0018_removal.sql`."""
    run_script("0018_removal")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("what is being unregistered would come back without its topics")
