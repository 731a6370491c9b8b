"""Removals that are requested at a gateway."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Run `0028_removals.sql`."""
    run_script("0028_removals")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("removals that were accepted would be forgotten halfway")
