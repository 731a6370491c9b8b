"""What someone sees of what is registered, how much of it, and what of it they may change: pure.

Everything else does not exist for them, whatever it is a part of: a version is its model's, a variant its
architecture's. Who is neither its owner nor an administrator is told what it does, and neither what files it is made
of, how and by whom, nor with whom else it is shared.
"""

from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypeVar

from msgspec.structs import replace

from schemas.access import EVERY_TENANT, PUBLIC, Access
from schemas.errors import Forbidden
from schemas.principal import Principal, Role
from schemas.rows.catalog import Architecture, Task, Variant, VariantState
from security.access import includes, may_change, used_as, users_by_name

Registered: TypeAlias = Task | Architecture | Variant
Row = TypeVar("Row", Task, Architecture, Variant)


class Sight:
    """What one principal sees.

    Args:
        principal: who asks; whoever administrates sees everything, as does everybody while authentication is off.
        access: whose tasks and models are.
        architectures: all that are registered.
    """

    def __init__(
        self, principal: Principal, access: Mapping[str, Access], architectures: Iterable[Architecture]
    ) -> None:
        rows = tuple(architectures)
        self._principal = principal
        self._tenant = EVERY_TENANT if principal.has(Role.ADMIN) else principal.tenant
        self._access = access
        self._users = users_by_name(access, rows)
        self._of_architecture = {row.name: row for row in rows}

    @property
    def is_whole(self) -> bool:
        """Whether they see all that there is, and what it runs on."""
        return self._principal.has(Role.ADMIN)

    def sees(self, row: Registered) -> bool:
        """Whether it exists for them; what is not finished, or goes, does for its owner alone."""
        if not self._uses(used_as(row)) or not self._principal.may_ask(row.name if isinstance(row, Task) else row.task):
            return False
        return self.knows(row) or not _is_unfinished(row)

    def sees_architecture(self, name: str) -> bool:
        """Whether there is an architecture of this name that they see."""
        row = self._of_architecture.get(name)
        return row is not None and self.sees(row)

    def those_seen(self, rows: Iterable[Row]) -> list[Row]:
        """Those of the rows that exist for them, with as much as they may know of each."""
        return [self.shown(row) for row in rows if self.sees(row)]

    def knows(self, row: Registered) -> bool:
        """Whether they may know all of it: they administrate, or their tenant owns it."""
        return self.knows_of(self.name_of(row))

    def knows_of(self, name: str) -> bool:
        """Whether they may know all of a task or a model."""
        owner = self._access.get(name, PUBLIC).owner
        return self.is_whole or (owner is not None and owner == self._principal.tenant)

    def may_change(self, row: Registered) -> bool:
        """Whether they may change it, which needs that they see it."""
        return self.sees(row) and may_change(self._access.get(self.name_of(row), PUBLIC), self._principal)

    def check_may_change(self, rows: Iterable[Registered]) -> None:
        """Check that they may change all of these, of which there is one that they see.

        Raises:
            Forbidden: some are another's. What they do not see is not named.
        """
        others = [row for row in rows if not self.may_change(row)]
        if not others:
            return
        named = sorted({self.name_of(row) for row in others if self.sees(row)}) or ["some of it"]
        raise Forbidden(
            f"{', '.join(named)} is not your tenant's: who owns it may change it, with the role publish, and "
            "administrators"
        )

    def shown(self, row: Row) -> Row:
        """As much of it as they may know."""
        if isinstance(row, Task):
            named = self.is_whole or self.sees_architecture(row.reference.partition(".")[0])
            return row if named else replace(row, reference="")
        if self.knows(row):
            return row
        if isinstance(row, Variant):
            return replace(row, artifact="", reason="", tuning="")
        return replace(row, source="", sample_rows="", processing=None, made_with={})

    def access_of(self, name: str) -> Access:
        """Whose a task or a model is, and who may use it, as far as they may know."""
        access = self._access.get(name, PUBLIC)
        if self.knows_of(name):
            return access
        return replace(access, shared_with=access.shared_with & {self._principal.tenant})

    def _uses(self, name: str) -> bool:
        return includes(self._users.get(name), self._tenant)

    def name_of(self, row: Registered) -> str:
        """The task or model by whose access a row goes."""
        match row:
            case Task():
                return row.name
            case Architecture():
                return row.model
            case Variant():
                architecture = self._of_architecture.get(row.architecture)
                return row.architecture if architecture is None else architecture.model


def _is_unfinished(row: Registered) -> bool:
    return row.state is not VariantState.READY if isinstance(row, Variant) else row.removing
