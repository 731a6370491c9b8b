"""What is wrong with settings, in the words of the environment."""

from pydantic import ValidationError


def in_words(error: ValidationError, prefix: str, whole: str, field: str) -> str:
    """Describe each wrong value, without the value: it may be a secret.

    Variables are named `prefix` and their field's name, but for the one called `whole`, which sets `field`.
    """
    found: list[str] = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        variable = whole if name in (field, whole) else f"{prefix}{name.upper()}"
        found.append(f"{variable}: {problem['msg']}")
    return "; ".join(found)
