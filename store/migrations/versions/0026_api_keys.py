"""API keys."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Run `0026_api_keys.sql`."""
    run_script("0026_api_keys")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("keys that clients use would be forgotten")
