"""Secret shared by the services, with which gateways sign their counts for selectors."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    """Run `0033_system_secret.sql`."""
    run_script("0033_system_secret")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("gateways could prove nothing to selectors")
