"""What is done to texts and images before a model computes them, and which variants mix lengths in a batch."""

from store.migrations.script import refuse_downgrade, run_script

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Run `0009_processing.sql`."""
    run_script("0009_processing")


def downgrade() -> None:
    """Refuse to go back."""
    refuse_downgrade("what turns the inputs of models into their tensors would be forgotten")
