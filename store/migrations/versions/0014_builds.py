"""The steps of registrations that workers do, and which workers do any."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Run `0014_builds.sql`."""
    run_script("0014_builds")


def downgrade() -> None:
    """Refuse to go back."""
    refuse_downgrade("steps that were done would be done again")
