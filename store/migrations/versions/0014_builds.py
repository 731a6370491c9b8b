"""Build steps that workers execute, and the workers that execute them."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Run `0014_builds.sql`."""
    run_script("0014_builds")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("steps that were done would be done again")
