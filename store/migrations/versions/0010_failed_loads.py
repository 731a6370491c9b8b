"""State `failed` for instances that cannot be loaded."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Run `0010_failed_loads.sql`."""
    run_script("0010_failed_loads")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("which instances cannot be loaded")
