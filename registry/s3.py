"""Bucket of an S3-compatible store, accessed through obstore (extra `s3`).

Credentials come from the usual sources of AWS clients: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or the role of
the machine. No setting, name or message of this system contains them.
"""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from schemas.errors import OperatorError

SCHEME: Final = "s3://"
_TIMEOUT: Final = "300s"
"""Timeout of one request, which transfers one part of a file."""
_CONNECT: Final = "5s"
_RETRY_S: Final = 60
_RETRIES: Final = 4
_CHUNK: Final = 8 << 20
_DEFAULT_REGION: Final = "us-east-1"
"""Region for stores with an endpoint of their own; most of them accept any name."""


class S3Bucket:
    """Files under a prefix of a bucket. All methods block, for minutes if the store does not answer."""

    def __init__(self, url: str, endpoint: str = "") -> None:
        """Open `s3://bucket/prefix`; `endpoint` is the store's address if it is not AWS.

        Raises:
            OperatorError: the URL is wrong, or obstore is not installed.
        """
        parts = urlsplit(url)
        if parts.username or parts.password or not parts.hostname or parts.query:
            raise OperatorError(
                "INFAAS_ARTIFACTS must be s3://bucket/prefix and nothing else; set credentials in AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY"
            )
        self.place = f"{SCHEME}{parts.netloc}{parts.path}".rstrip("/")
        self._obstore = _import_obstore()
        options: dict[str, Any] = {"endpoint": endpoint, "region": _DEFAULT_REGION} if endpoint else {}
        with self._explained("open"):
            self._store = import_module("obstore.store").S3Store(
                parts.netloc,
                prefix=parts.path.strip("/") or None,
                client_options={"timeout": _TIMEOUT, "connect_timeout": _CONNECT, "allow_http": True},
                retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_S)},
                disable_bulk_delete=True,  # not every store supports it, and it is not needed here
                **options,
            )

    def has(self, name: str) -> bool:
        """Return true if the file exists."""
        with self._explained("look for"):
            try:
                self._obstore.head(self._store, name)
            except FileNotFoundError:
                return False
        return True

    def upload(self, name: str, file: Path) -> None:
        """Store a file, large ones in parts. An existing file is replaced, because it may be damaged."""
        with self._explained("write to"):
            self._obstore.put(self._store, name, file)

    def download(self, name: str, target: Path) -> bool:
        """Write the file to `target`; return false if it does not exist."""
        with self._explained("read from"):
            try:
                content = self._obstore.get(self._store, name)
            except FileNotFoundError:
                return False
            chunks = iter(content.stream(min_chunk_size=_CHUNK))
            with target.open("xb") as file:
                while (chunk := next(chunks, None)) is not None:
                    with _local(target):
                        file.write(chunk)
        return True

    def delete(self, name: str) -> None:
        """Delete the file; a missing file is no error."""
        with self._explained("delete from"), suppress(FileNotFoundError):
            self._obstore.delete(self._store, name)

    def names_older(self, age_s: float) -> list[str]:
        """Return the names of files older than `age_s` seconds, by the clocks of the store and of this machine."""
        limit = datetime.now(UTC) - timedelta(seconds=age_s)
        with self._explained("list"):
            found = [file for files in self._obstore.list(self._store) for file in files]
        return [str(file["path"]) for file in found if file["last_modified"] < limit]

    @contextmanager
    def _explained(self, action: str) -> Generator[None]:
        """Raise errors of obstore as `OperatorError`, shortened to one line without the content of the request."""
        try:
            yield
        except OperatorError:
            raise
        except Exception as error:  # noqa: BLE001 - obstore's errors have no common base of their own
            raise OperatorError(f"cannot {action} {self.place}: {_reason(error)}") from None


def _import_obstore() -> Any:
    try:
        return import_module("obstore")
    except ImportError as error:
        raise OperatorError(f"artifacts in S3 need obstore ({error}): pip install 'infaas[s3]'") from None


@contextmanager
def _local(target: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise OperatorError(f"cannot write {target}: {error.strerror or error}") from error


def _reason(error: Exception) -> str:
    """Return the first line of an error, without the store's XML document, of which only the code is kept."""
    said, _, document = str(error).partition("<?xml")
    code = document.partition("<Code>")[2].partition("</Code>")[0]
    line = said.strip().splitlines()[0].rstrip(" :") if said.strip() else type(error).__name__
    return f"{line[:300]}{f' ({code[:60]})' if code else ''}"
