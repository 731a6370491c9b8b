"""Client certificates that are used like API keys."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Run `0030_certificates.sql`."""
    run_script("0030_certificates")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("who asks by certificate would be locked out")
