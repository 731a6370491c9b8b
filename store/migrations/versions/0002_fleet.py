"""What a person and the autoscaler want of the workers: pins, pause, counts, drains."""

from importlib.resources import files

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create everything, as `0002_fleet.sql` says."""
    script = files("store").joinpath("migrations", "versions", "0002_fleet.sql").read_text(encoding="utf-8")
    for statement in script.split("\n\n\n"):
        op.execute(statement.replace(":", r"\:"))


def downgrade() -> None:
    """Not offered: a database of this version holds what people pinned."""
    raise NotImplementedError("restore a backup instead")
