"""Input limits of an architecture, in addition to those of its task."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Run `0025_inputs.sql`."""
    run_script("0025_inputs")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("what inputs models take would be forgotten")
