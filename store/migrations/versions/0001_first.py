"""The first tables: what is registered, what is placed where, and what was observed."""

from importlib.resources import files

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything, as `0001_first.sql` says."""
    script = files("store").joinpath("migrations", "versions", "0001_first.sql").read_text(encoding="utf-8")
    for statement in script.split("\n\n\n"):
        op.execute(statement.replace(":", r"\:"))


def downgrade() -> None:
    """Not offered: a database of this version holds what people registered."""
    raise NotImplementedError("restore a backup instead")
