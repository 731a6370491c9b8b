"""Names of variants that use several cores."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Run `0027_cores.sql`."""
    run_script("0027_cores")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("variants for several cores have names that were not allowed")
