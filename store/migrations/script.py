"""Functions of every migration: run the SQL file beside it, and refuse a downgrade."""

from pathlib import Path
from typing import Final, NoReturn

from alembic import op
from alembic.util import CommandError

_VERSIONS: Final = Path(__file__).parent / "versions"


def run_script(name: str) -> None:
    """Execute the statements of `versions/<name>.sql`, which are separated by two empty lines."""
    for statement in (_VERSIONS / f"{name}.sql").read_text(encoding="utf-8").split("\n\n\n"):
        op.execute(statement.replace(":", r"\:"))


def refuse_downgrade(held: str) -> NoReturn:
    """Refuse to downgrade, because a database of this version contains `held`.

    Raises:
        CommandError: always.
    """
    raise CommandError(f"this would lose {held}: restore a backup of before the upgrade instead")
