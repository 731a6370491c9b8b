"""Notification of registrations only if a row changes."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    """Run `0032_registration_changes.sql`."""
    run_script("0032_registration_changes")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("registrars would wake themselves without end")
