"""Sample inputs of each architecture, with which a worker warms it up."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run `0008_sample_rows.sql`."""
    run_script("0008_sample_rows")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("what models were verified with would be forgotten")
