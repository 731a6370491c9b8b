"""A folder out of an upload: an uncompressed tar of plain files and folders, and nothing else of what a tar may hold.

Uncompressed, so that it is no larger unpacked than it was sent. No links, no devices, no holes, no path that leads
anywhere else: what a tar says of a member is not believed, it is checked. What reads it has been taken to errors of all
kinds by bytes that are no tar, and to minutes of work by some that are: how long it may take is its process's to bound.
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
"""What `tarfile` raises of what is no tar."""


def unpack(tar: Path, target: Path) -> None:
    """Write what a tar holds into the new folder `target`; blocks.

    Raises:
        InvalidRequest: it is no such tar, or holds what it may not.
    """
    target.mkdir()
    left, folders = tar.stat().st_size, set[PurePosixPath]()
    try:
        with tarfile.open(tar, "r:") as archive:
            for number, member in enumerate(archive):
                path = _checked(tar, member)
                folders.update(path.parents)  # each is made, whether or not it is a member, too
                if number + len(folders) > MOST_FILES:
                    raise InvalidRequest(f"{tar.name} holds more than {MOST_FILES} files and folders")
                left -= member.size
                if left < 0 or member.size < 0:
                    raise InvalidRequest(f"{tar.name} says that it holds more than it does")
                _write(archive, member, target / path)
    except _UNREADABLE as error:
        raise InvalidRequest(f"{tar.name} is no uncompressed tar, or damaged: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise InvalidRequest(f"{tar.name} holds the same name twice: {Path(error.filename).name[:80]}") from error


def _checked(tar: Path, member: tarfile.TarInfo) -> PurePosixPath:
    member.name.encode()  # raises where it holds bytes that are no text, which nothing after this could show
    path = PurePosixPath(member.name)
    strange = path.is_absolute() or ".." in path.parts or "\0" in member.name or "\\" in member.name
    if strange or len(member.name) > _LONGEST or len(path.parts) > _DEEPEST:
        raise InvalidRequest(f"{tar.name} holds a path that leads out of it, or too deep: {member.name[:80]!r}")
    if not (member.isdir() or (member.isreg() and not member.issparse())):
        raise InvalidRequest(f"{tar.name}: {member.name[:80]!r} is neither a file nor a folder, but a link or the like")
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
