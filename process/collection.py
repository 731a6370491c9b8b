"""Tuning of the cyclic garbage collector.

The objects of a query live until the query is acknowledged. With the default threshold of 700 new objects, the
collector visits thousands of live objects again and again; this took a quarter of the selector's CPU time. The
threshold must exceed the objects of all queries in flight, or each burst of queries causes a visit. Reference counting,
which frees nearly all objects, is unchanged.
"""

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

_YOUNG: Final = 50_000
"""Number of new objects that start a collection; visiting them stops the process for 4 ms. 2,000 queries in flight of a
selector have some 20,000."""


def tune_gc() -> None:
    """Exclude all present objects from collection, and collect new ones less often; call once, at the end of start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 50)


@contextmanager
def no_collection() -> Generator[None]:
    """Collect garbage now, then disable the cyclic collector while the context is open."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
