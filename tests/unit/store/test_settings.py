"""Tests of passwords in a DSN: they are not shown, and errors do not quote them."""

from pathlib import Path

import pytest

from schemas.errors import OperatorError
from store.settings import checked_dsn, has_password, without_password


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://ann:hush@db:5432/infaas?sslmode=require", "postgresql://ann@db:5432/infaas?sslmode=require"),
        ("postgresql://ann@db/infaas?password=hush&host=/run", "postgresql://ann@db/infaas?host=/run"),
        ("postgresql://ann:h%2Fus%40h@a:1,b:2/x?sslpassword=hush", "postgresql://ann@a:1,b:2/x"),
        ("postgres://ann:hu@sh@db/infaas", "postgres://ann@db/infaas"),
    ],
)
def test_without_password_removes_passwords(dsn: str, shown: str) -> None:
    assert without_password(dsn) == shown
    assert has_password(dsn)
    assert not has_password(shown)
    assert checked_dsn(dsn) == dsn


@pytest.mark.parametrize("dsn", ["postgresql://db/infaas", "postgresql://ann@[::1]:5432/infaas", "postgresql:///x"])
def test_without_password_keeps_other_dsn(dsn: str) -> None:
    assert (without_password(dsn), has_password(dsn), checked_dsn(dsn)) == (dsn, False, dsn)


@pytest.mark.parametrize("dsn", ["postgresql://ann:hush/x@db/infaas", "postgresql://db:hush/infaas"])
def test_checked_dsn_does_not_quote_unreadable_dsn(dsn: str) -> None:
    with pytest.raises(OperatorError, match="INFAAS_POSTGRES") as caught:
        checked_dsn(dsn)
    assert "hush" not in str(caught.value)


def test_checked_dsn_rejects_unusable_passfile(tmp_path: Path) -> None:
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
