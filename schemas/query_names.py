"""Names of a query's headers and parameters: reserved and unsupported ones, and suggestions for misspelt ones.

A misspelt need must be refused: otherwise the system would ignore the client's limit without notice. The same rules and
messages apply to HTTP and Kafka:

* **Headers that begin with `infaas-`** are reserved. An unknown one is refused, because it may be a misspelt need or a
  need of a newer version. Two prefixes are always accepted. `infaas-x-*` is for headers that services add and other
  services may ignore, so that older versions accept the records during a rolling update. `infaas-dead-*` allows a dead
  letter to be sent again exactly as it is in its topic.
* **The query string** of a request contains only needs.
* **Parameters, and attributes of CloudEvents,** may be the client's own; only names that resemble a need are refused,
  and parameters that the protocol reserves and this system does not support. `timeout` is a need and is read together
  with the other needs. Parameters for sequences and priorities would change the answer or its order.

Hot path: `check_headers` runs for each record.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Final, TypeAlias

from schemas import headers as h
from schemas.errors import InvalidRequest

Parameter: TypeAlias = str | bool | int | float

BINARY_OUTPUT: Final = "binary_data_output"
TIMEOUT: Final = "timeout"
"""Timeout of the answer in microseconds."""
_NO_SEQUENCES: Final = "sequences are not supported, since each query is independent: leave it out"
_INSTEAD: Final = {
    "sequence_id": _NO_SEQUENCES,
    "sequence_start": _NO_SEQUENCES,
    "sequence_end": _NO_SEQUENCES,
    "priority": "priorities are not supported: set a shorter `latency_ms`, or `mode` offline if the query may wait",
}
"""Unsupported parameters, with the alternative. Triton's clients send no value, or 0, for parameters that are not
used."""


def check_reserved(parameters: Mapping[str, Parameter]) -> None:
    """Check the reserved parameters of a request.

    Raises:
        InvalidRequest: a parameter has a wrong type, or requests an unsupported feature.
    """
    if not isinstance(parameters.get(BINARY_OUTPUT, False), bool):
        raise InvalidRequest(f"Expected `bool` - at `$.parameters.{BINARY_OUTPUT}`")
    for name, instead in _INSTEAD.items():
        if parameters.get(name):
            raise InvalidRequest(f"$.parameters.{name}: {instead}")


PREFIX: Final = "infaas-"
_PASSING: Final = ("infaas-x-", "infaas-dead-")
_KNOWN: Final = frozenset(text for name, text in vars(h).items() if isinstance(text, str) and not name.startswith("_"))
_MEANT: Final = (h.ID, h.REPLY_TO, h.DEADLINE_MS, h.BATCH, h.CORRELATION, *h.NEEDS.values())
"""Headers that a client may have meant."""
_RESULTS: Final = {h.ACCURACY: h.MIN_ACCURACY, h.COST: h.MAX_COST}
"""Headers of results that resemble needs. A record that was forwarded or answered before also has the header of a
variant."""
_NEEDS: Final = tuple(h.NEEDS)
_QUALIFIERS: Final = frozenset({"infaas", "min", "max", "ms", "s"})
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_MIN_LETTERS: Final = 5  # `model` is not a misspelt `mode`
_MIN_SIMILARITY: Final = 0.8
_SHOWN: Final = 80
"""Maximum number of characters of a name that are examined and quoted; all known names are shorter."""


def check_headers(names: Collection[str]) -> None:
    """Check the header names of a record, or of an HTTP request in lower case.

    Raises:
        InvalidRequest: a name is unknown; the message contains it and the nearest known one.
    """
    if h.VARIANT not in names:
        for result, need in _RESULTS.items():
            if result in names:
                raise InvalidRequest(f"header {result} belongs to results: did you mean {need}?")
    if not _KNOWN.issuperset(names):
        for name in names:
            if name not in _KNOWN and (problem := _header_problem(name[:_SHOWN])):
                raise InvalidRequest(problem)


def check_query_names(names: Iterable[str], *others: str) -> None:
    """Check the names in a query string, which must be needs or in `others`.

    Raises:
        InvalidRequest: a name is unknown; the message contains it and the nearest known one.
    """
    for name in names:
        if name not in h.NEEDS and name not in others:
            known = (*_NEEDS, *others)
            nearest = nearest_name(name[:_SHOWN], known)
            instead = f": did you mean {nearest}?" if nearest else f"; there are {', '.join(known)}"
            raise InvalidRequest(f"no parameter is called {name[:_SHOWN]!r}{instead}")


def check_parameter(name: str) -> None:
    """Check the name of a parameter that is not a need and may be the client's own.

    Raises:
        InvalidRequest: the name resembles a need, which the message suggests.
    """
    if nearest := nearest_name(name[:_SHOWN], _NEEDS):
        raise InvalidRequest(f"no parameter is called {name[:_SHOWN]!r}: did you mean {nearest}?")


@lru_cache(maxsize=1024)
def nearest_name(name: str, known: tuple[str, ...]) -> str:
    """Return the known name that is most similar to `name`; empty if none is similar.

    Names are similar if a few letters differ (`min_acuracy`), or a prefix or suffix (`max_latency`).
    """
    cores = {_core(one): one for one in known}
    core = _core(name)
    if core in cores:
        return cores[core]
    long = [one for one in cores if len(one) >= _MIN_LETTERS]
    found = get_close_matches(core, long, 1, _MIN_SIMILARITY)
    return cores[found[0]] if found else ""


@lru_cache(maxsize=1024)
def _header_problem(name: str) -> str:
    plain = name.lower().replace("_", "-")
    if not plain.startswith(PREFIX) or plain.startswith(_PASSING):
        return ""
    nearest = plain if plain in _KNOWN else nearest_name(name, _MEANT)
    instead = f": did you mean {nearest}?" if nearest else f"; your own headers must not begin with {PREFIX}"
    return f"no header is called {name!r}{instead}"


def _core(name: str) -> str:
    """Return the words of a name without qualifiers such as `min` and `ms`, joined."""
    words = re.split(r"[-_. ]+", _CAMEL.sub("_", name).lower())
    return "".join(word for word in words if word not in _QUALIFIERS)
