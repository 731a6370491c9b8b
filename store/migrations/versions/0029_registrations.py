"""Registrations through the admin API, and their uploads."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Run `0029_registrations.sql`."""
    run_script("0029_registrations")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("registrations that are under way would be forgotten")
