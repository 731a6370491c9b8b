"""A bucket of an S3-compatible store, spoken to by obstore (extra `s3`).

Credentials come from where every AWS client takes them: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or the role of
the machine. They are in no setting, name or message of ours.
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
"""The longest that one request may take: a part of a file."""
_CONNECT: Final = "5s"
_RETRY_S: Final = 60
_RETRIES: Final = 4
_CHUNK: Final = 8 << 20
_DEFAULT_REGION: Final = "us-east-1"
"""Region that stores with an endpoint of their own mostly take any name for."""


class S3Bucket:
    """Files under a prefix of a bucket. All methods block, for minutes where the store does not answer."""

    def __init__(self, url: str, endpoint: str = "") -> None:
        """Bucket and prefix `s3://bucket/prefix`; `endpoint` is the store's address where that is not AWS.

        Raises:
            OperatorError: the URL is wrong, or obstore is not installed.
        """
        parts = urlsplit(url)
        if parts.username or parts.password or not parts.hostname or parts.query:
            raise OperatorError(
                "INFAAS_ARTIFACTS must be s3://bucket/prefix and nothing else; credentials belong into "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
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
                disable_bulk_delete=True,  # which not every store has, and nothing here deletes many
                **options,
            )

    def has(self, name: str) -> bool:
        """Whether the file is there."""
        with self._explained("look for"):
            try:
                self._obstore.head(self._store, name)
            except FileNotFoundError:
                return False
        return True

    def upload(self, name: str, file: Path) -> None:
        """Keep a file; large ones go in parts. What is there may be damaged, so it is replaced."""
        with self._explained("write to"):
            self._obstore.put(self._store, name, file)

    def download(self, name: str, target: Path) -> bool:
        """Write the file to `target`; False if it is not there."""
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
        """Remove the file; none there is no error."""
        with self._explained("delete from"), suppress(FileNotFoundError):
            self._obstore.delete(self._store, name)

    def names_older(self, age_s: float) -> list[str]:
        """Names of the files that were written so long ago, by the clocks of the store and of this machine."""
        limit = datetime.now(UTC) - timedelta(seconds=age_s)
        with self._explained("list"):
            found = [file for files in self._obstore.list(self._store) for file in files]
        return [str(file["path"]) for file in found if file["last_modified"] < limit]

    @contextmanager
    def _explained(self, action: str) -> Generator[None]:
        """Raise what obstore says as an error of the operator's, in a line and without what a request carried."""
        try:
            yield
        except OperatorError:
            raise
        except Exception as error:  # noqa: BLE001 - its errors have no base that is only theirs
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
    """The first line of an error, up to the store's own document; of that only the code."""
    said, _, document = str(error).partition("<?xml")
    code = document.partition("<Code>")[2].partition("</Code>")[0]
    line = said.strip().splitlines()[0].rstrip(" :") if said.strip() else type(error).__name__
    return f"{line[:300]}{f' ({code[:60]})' if code else ''}"
