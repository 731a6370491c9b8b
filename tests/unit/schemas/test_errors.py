import pytest

from schemas.errors import QUERY_ERRORS, ErrorCode, Fault, Internal, query_error


def test_query_errors_cover_all_codes() -> None:
    assert set(QUERY_ERRORS) == set(ErrorCode)


@pytest.mark.parametrize("code", ErrorCode)
def test_query_error_status_matches_fault(code: ErrorCode) -> None:
    kind = QUERY_ERRORS[code]
    assert (kind.http_status < 500) == (kind.fault is Fault.CLIENT)
    assert str(kind()) == kind.default_message


def test_query_error_restores_error_from_code() -> None:
    error = query_error("overloaded", "busy")
    assert type(error) is QUERY_ERRORS[ErrorCode.OVERLOADED]
    assert str(error) == "busy"


def test_query_error_of_unknown_code_is_internal() -> None:
    assert isinstance(query_error("brand_new", "x"), Internal)
