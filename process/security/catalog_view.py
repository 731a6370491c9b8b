"""Visibility of the catalog for one principal: which rows it sees, with which fields, and which it may change. Pure.

A version has the visibility of its model, a variant that of its architecture. To a principal that does not see a row,
the row does not exist. Only the owner and administrators see a row's files, how it was made and with whom it is shared;
others see what it does.
"""

from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypeVar

from msgspec.structs import replace

from process.security.access import includes, may_change, used_as, users_by_name
from schemas.access import EVERY_TENANT, PUBLIC, Access, Principal, Role
from schemas.errors import Forbidden
from schemas.rows.catalog import Architecture, Task, Variant, VariantState

Registered: TypeAlias = Task | Architecture | Variant
Row = TypeVar("Row", Task, Architecture, Variant)


class CatalogView:
    """View of the catalog for one principal.

    Args:
        principal: the viewer; administrators see everything, as does everybody while authentication is off.
        access: owners and users of tasks and models, by name.
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
        """True if the principal sees all rows, and the workers that they run on."""
        return self._principal.has(Role.ADMIN)

    def sees(self, row: Registered) -> bool:
        """Return true if a row exists for the principal; unfinished rows do for owner and administrators only."""
        if not self._uses(used_as(row)) or not self._principal.may_ask(row.name if isinstance(row, Task) else row.task):
            return False
        return self.knows(row) or not _is_unfinished(row)

    def sees_architecture(self, name: str) -> bool:
        """Return true if the principal sees an architecture of this name."""
        row = self._of_architecture.get(name)
        return row is not None and self.sees(row)

    def filter_visible(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows that the principal sees, each redacted by `shown`."""
        return [self.shown(row) for row in rows if self.sees(row)]

    def knows(self, row: Registered) -> bool:
        """Return true if the principal may see all fields of a row: as an administrator, or as its owner's tenant."""
        return self.knows_of(self.name_of(row))

    def knows_of(self, name: str) -> bool:
        """Return true if the principal may see all fields of a task or a model."""
        owner = self._access.get(name, PUBLIC).owner
        return self.is_whole or (owner is not None and owner == self._principal.tenant)

    def may_change(self, row: Registered) -> bool:
        """Return true if the principal sees the row and may change it."""
        return self.sees(row) and may_change(self._access.get(self.name_of(row), PUBLIC), self._principal)

    def check_may_change(self, rows: Iterable[Registered]) -> None:
        """Check that the principal may change all of these rows; it sees at least one of them.

        Raises:
            Forbidden: some belong to others. The message does not name rows that the principal does not see.
        """
        others = [row for row in rows if not self.may_change(row)]
        if not others:
            return
        named = sorted({self.name_of(row) for row in others if self.sees(row)}) or ["a part of it"]
        raise Forbidden(
            f"{', '.join(named)} belongs to another tenant; only its owner with role publish and administrators may "
            "change it"
        )

    def shown(self, row: Row) -> Row:
        """Return the row without the fields that the principal may not see."""
        if isinstance(row, Task):
            named = self.is_whole or self.sees_architecture(row.reference.partition(".")[0])
            return row if named else replace(row, reference="")
        if self.knows(row):
            return row
        if isinstance(row, Variant):
            return replace(row, artifact="", reason="", tuning="")
        return replace(row, source="", sample_rows="", processing=None, made_with={})

    def access_of(self, name: str) -> Access:
        """Return the access of a task or a model; others see only whether it is shared with their own tenant."""
        access = self._access.get(name, PUBLIC)
        if self.knows_of(name):
            return access
        return replace(access, shared_with=access.shared_with & {self._principal.tenant})

    def _uses(self, name: str) -> bool:
        return includes(self._users.get(name), self._tenant)

    def name_of(self, row: Registered) -> str:
        """Return the task or model whose access decides about a row."""
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
