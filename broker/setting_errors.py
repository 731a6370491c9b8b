"""Error messages for wrong settings, in terms of environment variables."""

from pydantic import ValidationError


def in_words(error: ValidationError, prefix: str, whole: str, field: str) -> str:
    """Describe each wrong value without the value, which may be a secret.

    A variable is called `prefix` plus the name of its field, except the one called `whole`, which sets `field`.
    """
    found: list[str] = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        variable = whole if name in (field, whole) else f"{prefix}{name.upper()}"
        found.append(f"{variable}: {problem['msg']}")
    return "; ".join(found)
