"""A secret that services share, by which gateways prove their counts to selectors."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    """Run `0033_system_secret.sql`."""
    run_script("0033_system_secret")


def downgrade() -> None:
    """Refuse to go back."""
    refuse_downgrade("gateways could prove nothing to selectors")
