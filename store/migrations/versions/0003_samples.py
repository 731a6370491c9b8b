"""Samples by time: fine ones packed and kept for hours, coarse ones for weeks, dropped by partition."""

from importlib.resources import files

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create everything, as `0003_samples.sql` says."""
    script = files("store").joinpath("migrations", "versions", "0003_samples.sql").read_text(encoding="utf-8")
    for statement in script.split("\n\n\n"):
        op.execute(statement.replace(":", r"\:"))


def downgrade() -> None:
    """Not offered: a database of this version holds what was observed."""
    raise NotImplementedError("restore a backup instead")
