"""Download of files from a Maven repository by plain HTTPS, for machines without Maven.

The repository is Maven Central, or the mirror that INFAAS_MAVEN_REPOSITORY names; proxies come from the environment.
The caller verifies the files.
"""

import asyncio
import os
from collections.abc import Callable, Collection
from typing import Final

import aiohttp

from process.backoff import Backoff
from process.retry import retry_until_reachable
from schemas.errors import OperatorError

ENV: Final = "INFAAS_MAVEN_REPOSITORY"
CENTRAL: Final = "https://repo1.maven.org/maven2"
AT_ONCE: Final = 8
FILE_S: Final = 240.0
"""Seconds that one file of at most 10 MB may take, while seven others are downloaded."""
CONNECT_S: Final = 10.0
SILENT_S: Final = 30.0
TRIES: Final = 3
_BACKOFF: Final = Backoff(first_s=0.2, longest_s=5.0, jitter=0.5)
_BUSY: Final = 429
_SERVER: Final = 500
_ERRORS: Final = (aiohttp.ClientError, TimeoutError)


async def download(paths: Collection[str], keep: Callable[[str, bytes], None]) -> None:
    """Download files, a few at a time; a thread calls `keep` for each as soon as it is complete.

    Raises:
        OperatorError: a file cannot be downloaded, or is not kept; the others are cancelled.
    """
    base = (os.environ.get(ENV) or CENTRAL).rstrip("/")
    limit = asyncio.Semaphore(AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=FILE_S, sock_connect=CONNECT_S, sock_read=SILENT_S)

    async def fetch(http: aiohttp.ClientSession, path: str) -> None:
        async with limit:
            try:
                data = await retry_until_reachable(
                    lambda: _get(http, f"{base}/{path}"), _ERRORS, _BACKOFF, may_pass=_may_help, attempts=TRIES
                )
            except _ERRORS as error:
                raise OperatorError(f"{base} cannot be used ({_said(error)}); set {ENV} to a mirror of it") from error
            await asyncio.to_thread(keep, path, data)

    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as http, asyncio.TaskGroup() as tasks:
            for path in paths:
                tasks.create_task(fetch(http, path), name=f"download {path}")
    except* OperatorError as group:
        failed = group.exceptions[0]
    else:
        return
    raise failed


def _may_help(error: Exception) -> bool:
    """Return true if a retry may help."""
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status == _BUSY or error.status >= _SERVER
    return not isinstance(error, aiohttp.InvalidURL)


async def _get(http: aiohttp.ClientSession, url: str) -> bytes:
    async with http.get(url, raise_for_status=True) as response:
        return await response.read()


def _said(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{error.status} {error.message} for {error.request_info.real_url.path}"
    return str(error) or type(error).__name__
