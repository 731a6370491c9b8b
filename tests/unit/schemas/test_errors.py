import pytest

from schemas.errors import QUERY_ERRORS, ErrorCode, Fault, Internal, query_error


def test_the_table_is_closed() -> None:
    assert set(QUERY_ERRORS) == set(ErrorCode)


@pytest.mark.parametrize("code", ErrorCode)
def test_http_status_agrees_with_whose_fault_it_is(code: ErrorCode) -> None:
    kind = QUERY_ERRORS[code]
    assert (kind.http_status < 500) == (kind.fault is Fault.CLIENT)
    assert str(kind()) == kind.default_message


def test_an_error_comes_back_from_its_code() -> None:
    error = query_error("overloaded", "busy")
    assert type(error) is QUERY_ERRORS[ErrorCode.OVERLOADED]
    assert str(error) == "busy"


def test_a_code_of_a_newer_server_is_internal() -> None:
    assert isinstance(query_error("brand_new", "x"), Internal)
