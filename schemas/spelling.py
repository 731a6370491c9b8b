"""The names that a client may use, and what it is told of one that it misspelt.

A need that is misspelt must not pass: what was asked for would be broken in silence. The same rule, with the same
words, for HTTP and Kafka:

* **Headers that begin with `infaas-`** are the system's. One that is not known here is refused, for it may be a need,
  of a newer version or misspelt. Two kinds pass unread: `infaas-x-*`, by which a service adds what others may ignore,
  so that those of an older version, which run beside it while it is rolled out, take its records; and
  `infaas-dead-*`, so that a dead letter may be sent again as it lies in its topic.
* **The query string** of a request holds needs and nothing else.
* **Parameters, and attributes of CloudEvents,** are everybody's, so only one that looks like a need is refused.

Hot: `check_headers`, once a record.
"""

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from schemas import headers as h
from schemas.errors import InvalidRequest

PREFIX: Final = "infaas-"
_PASSING: Final = ("infaas-x-", "infaas-dead-")
_KNOWN: Final = frozenset(text for name, text in vars(h).items() if isinstance(text, str) and not name.startswith("_"))
_MEANT: Final = (h.ID, h.REPLY_TO, h.DEADLINE_MS, h.BATCH, h.CORRELATION, *h.NEEDS.values())
"""Headers that a client may have meant."""
_RESULTS: Final = {h.ACCURACY: h.MIN_ACCURACY, h.COST: h.MAX_COST}
"""Headers of results that look like needs; a record that was forwarded or answered before has its variant's, too."""
_NEEDS: Final = tuple(h.NEEDS)
_QUALIFIERS: Final = frozenset({"infaas", "min", "max", "ms", "s"})
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_MIN_LETTERS: Final = 5  # `model` is no misspelt `mode`
_MIN_SIMILARITY: Final = 0.8
_SHOWN: Final = 80
"""Characters of a name that are looked at, and kept; none that is known has as many."""


def check_headers(names: Collection[str]) -> None:
    """Check the names of the headers of a record, or of a request in lower case.

    Raises:
        InvalidRequest: one is not known; the message names it and the nearest that is.
    """
    if h.VARIANT not in names:
        for result, need in _RESULTS.items():
            if result in names:
                raise InvalidRequest(f"header {result} is one of results: did you mean {need}?")
    if not _KNOWN.issuperset(names):
        for name in names:
            if name not in _KNOWN and (problem := _header_problem(name[:_SHOWN])):
                raise InvalidRequest(problem)


def check_query_names(names: Iterable[str], *others: str) -> None:
    """Check the names in a query string, which are those of needs, or of `others`.

    Raises:
        InvalidRequest: one is not; the message names it and the nearest that is.
    """
    for name in names:
        if name not in h.NEEDS and name not in others:
            known = (*_NEEDS, *others)
            nearest = nearest_name(name[:_SHOWN], known)
            instead = f": did you mean {nearest}?" if nearest else f"; there are {', '.join(known)}"
            raise InvalidRequest(f"no parameter is called {name[:_SHOWN]!r}{instead}")


def check_parameter(name: str) -> None:
    """Check the name of a parameter that is no need, and may be the client's own.

    Raises:
        InvalidRequest: it looks like a misspelt need; the message names that.
    """
    if nearest := nearest_name(name[:_SHOWN], _NEEDS):
        raise InvalidRequest(f"no parameter is called {name[:_SHOWN]!r}: did you mean {nearest}?")


@lru_cache(maxsize=1024)
def nearest_name(name: str, known: tuple[str, ...]) -> str:
    """The known name that a person may have meant; empty if `name` is close to none.

    It is close if it differs by letters (`min_acuracy`), or by what stands around the word (`max_latency`).
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
    instead = f": did you mean {nearest}?" if nearest else f"; those of your own must not begin with {PREFIX}"
    return f"no header is called {name!r}{instead}"


def _core(name: str) -> str:
    """The words of a name that say what is meant, as one."""
    words = re.split(r"[-_. ]+", _CAMEL.sub("_", name).lower())
    return "".join(word for word in words if word not in _QUALIFIERS)
