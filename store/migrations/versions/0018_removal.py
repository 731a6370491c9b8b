"""What is being unregistered, and a guard against registering it meanwhile."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Run `0018_removal.sql`."""
    run_script("0018_removal")


def downgrade() -> None:
    """Refuse to go back."""
    refuse_downgrade("what is being unregistered would come back without its topics")
