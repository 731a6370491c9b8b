"""Unpacks an uploaded folder: an uncompressed tar of plain files and folders.

Compressed tars are refused, so that the content is never larger than the upload. Links, devices, sparse files and paths
outside the folder are refused as well: the headers of a tar are checked, never trusted. Bytes that are not a tar can
make `tarfile` raise many kinds of errors, and some make it compute for minutes: the CPU limit of the process ends
those.
"""

import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import Final

from schemas.errors import InvalidRequest

MOST_FILES: Final = 100_000
_LONGEST: Final = 1000
_DEEPEST: Final = 20
_UNREADABLE: Final = (tarfile.TarError, ValueError, IndexError, OverflowError, RecursionError, EOFError)
"""Exceptions that `tarfile` raises for content that is not a tar."""


def unpack(tar: Path, target: Path) -> None:
    """Unpack a tar into the new folder `target`; blocks.

    Raises:
        InvalidRequest: the file is not an uncompressed tar, or it holds a member that is not allowed.
    """
    target.mkdir()
    left, folders = tar.stat().st_size, set[PurePosixPath]()
    try:
        with tarfile.open(tar, "r:") as archive:
            for number, member in enumerate(archive):
                path = _checked(tar, member)
                folders.update(path.parents)  # each parent is created, even if it is no member of its own
                if number + len(folders) > MOST_FILES:
                    raise InvalidRequest(f"{tar.name} holds more than {MOST_FILES} files and folders")
                left -= member.size
                if left < 0 or member.size < 0:
                    raise InvalidRequest(f"{tar.name} declares more content than it has")
                _write(archive, member, target / path)
    except _UNREADABLE as error:
        raise InvalidRequest(f"{tar.name} is not an uncompressed tar, or damaged: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise InvalidRequest(f"{tar.name} holds the same name twice: {Path(error.filename).name[:80]}") from error


def _checked(tar: Path, member: tarfile.TarInfo) -> PurePosixPath:
    member.name.encode()  # raises for bytes that are no text, which later code could not show
    path = PurePosixPath(member.name)
    strange = path.is_absolute() or ".." in path.parts or "\0" in member.name or "\\" in member.name
    if strange or len(member.name) > _LONGEST or len(path.parts) > _DEEPEST:
        raise InvalidRequest(f"{tar.name} holds a path that leaves the folder, or is too deep: {member.name[:80]!r}")
    if not (member.isdir() or (member.isreg() and not member.issparse())):
        raise InvalidRequest(f"{tar.name}: {member.name[:80]!r} is neither a file nor a folder, e.g. a link")
    return path


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = archive.extractfile(member)
    assert content is not None, "a plain file has content"
    with content, path.open("xb") as file:
        shutil.copyfileobj(content, file)
