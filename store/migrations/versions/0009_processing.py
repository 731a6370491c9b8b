"""Processing steps around models, and variants that mix input lengths in a batch."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Run `0009_processing.sql`."""
    run_script("0009_processing")


def downgrade() -> None:
    """Refuse to downgrade."""
    refuse_downgrade("what turns the inputs of models into their tensors would be forgotten")
