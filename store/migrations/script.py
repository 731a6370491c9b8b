"""What every migration does: run the SQL that lies beside it, and never go back."""

from pathlib import Path
from typing import Final, NoReturn

from alembic import op
from alembic.util import CommandError

_VERSIONS: Final = Path(__file__).parent / "versions"


def run_script(name: str) -> None:
    """Execute the statements of `versions/<name>.sql`, which two empty lines part."""
    for statement in (_VERSIONS / f"{name}.sql").read_text(encoding="utf-8").split("\n\n\n"):
        op.execute(statement.replace(":", r"\:"))


def refuse_downgrade(held: str) -> NoReturn:
    """Refuse to undo a migration, since a database of this version holds `held`.

    Raises:
        CommandError: always.
    """
    raise CommandError(f"this would lose {held}: restore a backup of before the upgrade instead")
