"""Passwords in a DSN: not shown, and not quoted by what cannot read it."""

from pathlib import Path

import pytest

from schemas.errors import OperatorError
from store.dsn import checked_dsn, has_password, without_password


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://ann:hush@db:5432/infaas?sslmode=require", "postgresql://ann@db:5432/infaas?sslmode=require"),
        ("postgresql://ann@db/infaas?password=hush&host=/run", "postgresql://ann@db/infaas?host=/run"),
        ("postgresql://ann:h%2Fus%40h@a:1,b:2/x?sslpassword=hush", "postgresql://ann@a:1,b:2/x"),
        ("postgres://ann:hu@sh@db/infaas", "postgres://ann@db/infaas"),
    ],
)
def test_a_password_is_not_shown(dsn: str, shown: str) -> None:
    assert without_password(dsn) == shown
    assert has_password(dsn)
    assert not has_password(shown)
    assert checked_dsn(dsn) == dsn


@pytest.mark.parametrize("dsn", ["postgresql://db/infaas", "postgresql://ann@[::1]:5432/infaas", "postgresql:///x"])
def test_what_holds_none_stays_as_it_is(dsn: str) -> None:
    assert (without_password(dsn), has_password(dsn), checked_dsn(dsn)) == (dsn, False, dsn)


@pytest.mark.parametrize("dsn", ["postgresql://ann:hush/x@db/infaas", "postgresql://db:hush/infaas"])
def test_what_cannot_be_read_is_not_quoted(dsn: str) -> None:
    with pytest.raises(OperatorError, match="INFAAS_POSTGRES") as caught:
        checked_dsn(dsn)
    assert "hush" not in str(caught.value)


def test_a_file_of_passwords_that_is_not_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "pgpass"
    dsn = f"postgresql://ann@db/infaas?passfile={file}"
    with pytest.raises(OperatorError, match="is not a file"):
        checked_dsn(dsn)
    file.write_text("db:5432:infaas:ann:hush")
    file.chmod(0o640)
    with pytest.raises(OperatorError, match="chmod 600") as caught:
        checked_dsn(dsn)
    assert "hush" not in str(caught.value)
    file.chmod(0o600)
    assert checked_dsn(dsn) == dsn
