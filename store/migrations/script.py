"""Functions of every migration: run the SQL file beside it, and refuse a downgrade."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, cast

from alembic import op
from alembic.util import CommandError

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import AdaptedConnection

_VERSIONS: Final = Path(__file__).parent / "versions"


def run_script(name: str) -> None:
    """Execute the statements of `versions/<name>.sql` in the transaction that Alembic has begun.

    The driver executes the file as one script. SQLAlchemy would prepare it, and only single statements can be prepared.
    """
    script = (_VERSIONS / f"{name}.sql").read_text(encoding="utf-8")
    connection = cast("AdaptedConnection", op.get_bind().connection.dbapi_connection)
    connection.run_async(lambda driver: driver.execute(script))


def refuse_downgrade() -> NoReturn:
    """Refuse to downgrade, because data of this version would be lost.

    Raises:
        CommandError: always.
    """
    raise CommandError("tables cannot be downgraded: restore a backup from before the upgrade")
