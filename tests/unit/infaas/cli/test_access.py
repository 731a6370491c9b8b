"""Tests of the flags that declare the access to a model."""

import pytest

from infaas.cli.access import declared_access
from schemas.access import Access, Visibility
from schemas.errors import InvalidRequest
from tests.unit.infaas.shell import Shell


@pytest.mark.parametrize(
    ("owner", "private", "share_with", "access"),
    [
        (None, None, None, None),
        ("acme", None, None, Access(owner="acme")),
        ("acme", False, None, Access(owner="acme")),
        (None, False, None, Access()),
        ("acme", True, None, Access(owner="acme", visibility=Visibility.PRIVATE)),
        (
            "acme",
            None,
            "globex, initech",
            Access(owner="acme", visibility=Visibility.SHARED, shared_with=frozenset({"globex", "initech"})),
        ),
    ],
)
def test_declared_access_reads_flags(
    owner: str | None, private: bool | None, share_with: str | None, access: Access | None
) -> None:
    assert declared_access(owner, private, share_with) == access


@pytest.mark.parametrize(
    ("owner", "private", "share_with", "words"),
    [
        (None, True, None, "set --owner"),
        (None, None, "globex", "set --owner"),
        ("acme", True, "globex", "give only one of"),
        ("acme", None, " , ", "requires a list of tenants"),
        ("No Name", True, None, "tenant name 'No Name' is not allowed"),
    ],
)
def test_declared_access_refuses_contradicting_flags(
    owner: str | None, private: bool | None, share_with: str | None, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        declared_access(owner, private, share_with)


def test_access_set_requires_visibility(shell: Shell) -> None:
    asked = shell("access", "set", "digits", "--owner", "acme")
    assert asked.exit_code != 0
    assert "--private, --share-with A,B, or --public" in " ".join(asked.output.split())
