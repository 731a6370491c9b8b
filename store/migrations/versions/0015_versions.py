"""Versions of models, their rollouts and their history."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Run `0015_versions.sql`."""
    run_script("0015_versions")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("all versions of a model would serve at once")
