"""Upload of files to a gateway for a registration: each content once, with a progress bar."""

import asyncio
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from admin import uploads
from infaas.cli.admin_client import HttpAdmin
from infaas.cli.output import ProgressBar
from registry.artifacts import sha256_of
from schemas.errors import NotFound
from schemas.registrations import FileRef
from schemas.rows.catalog import Processing

_PIECE_BYTES: Final = 1 << 20


class Uploader:
    """Sender of files; files that the gateway already has are not sent again."""

    def __init__(self, ask: HttpAdmin, bar: ProgressBar, folder: Path) -> None:
        self._ask = ask
        self._bar = bar
        self._folder = folder

    async def give(self, path: Path | None) -> FileRef | None:
        """Upload a file, or a folder as a tar archive; None for None.

        Raises:
            InfaasError: the file cannot be read, or the gateway refuses it.
        """
        return None if path is None else await self.give_one(path)

    async def give_one(self, path: Path) -> FileRef:
        """Upload a file, or a folder as a tar archive; raises as `give` does."""
        if not await asyncio.to_thread(path.is_dir):
            return FileRef(name=path.name, upload=await self._send(path, path.name))
        tar = self._folder / "folder.tar"
        await asyncio.to_thread(pack, path, tar)
        return FileRef(name=path.name, folder=True, upload=await self._send(tar, path.name))

    async def processing(self, declared: Processing | None) -> Processing | None:
        """Upload the files of a declared processing; returns it with their SHA-256 in place of their paths."""
        if declared is None:
            return None
        sent = dict[str, str]()
        named = list[str]()
        declared.with_files(lambda file: named.append(file) or file)
        for file in named:
            sent[file] = await self._send(Path(file), Path(file).name)
        return declared.with_files(lambda file: sent[file])

    async def _send(self, file: Path, name: str) -> str:
        """Upload a file unless the gateway has it; returns its SHA-256."""
        self._bar.step(0, 0, f"{name}: checking whether it is uploaded")
        sha256 = await asyncio.to_thread(sha256_of, file)
        try:
            await self._ask(uploads.show, uploads.UploadRequest(sha256=sha256))
        except NotFound:
            size = (await asyncio.to_thread(file.stat)).st_size
            await self._ask.send(uploads.SEND.path.format(sha256=sha256), size, self._pieces(file, name, size))
        return sha256

    async def _pieces(self, file: Path, name: str, size: int) -> AsyncIterator[bytes]:
        sent, total = 0, -(-size // _PIECE_BYTES)
        with await asyncio.to_thread(file.open, "rb") as content:
            while piece := await asyncio.to_thread(content.read, _PIECE_BYTES):
                yield piece
                sent += 1
                self._bar.step(sent, total, f"{name}: uploading, in MiB")


@asynccontextmanager
async def uploading(ask: HttpAdmin, bar: ProgressBar) -> AsyncGenerator[Uploader]:
    """Open a sender of files, with a temporary folder for tar archives."""
    with TemporaryDirectory(prefix="infaas-upload-") as folder:
        yield Uploader(ask, bar, Path(folder))


def pack(folder: Path, tar: Path) -> None:
    """Pack a folder's files into an uncompressed, reproducible tar archive. Blocks.

    Symbolic links to files are replaced by the files, because the archive may contain only regular files.
    """
    with tarfile.open(tar, "w", dereference=True) as archive:
        for file in sorted(folder.rglob("*")):
            if not file.is_file():
                continue
            member = tarfile.TarInfo(file.relative_to(folder).as_posix())
            member.size = file.stat().st_size
            with file.open("rb") as content:
                archive.addfile(member, content)
