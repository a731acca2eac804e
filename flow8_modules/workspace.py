"""The files of one play: a folder that no path leads out of.

A path is walked name by name, each opened relative to the one before (openat) and never through a symbolic link, so
that what was checked is what is opened. A leading "/" is the workspace's own root: "/tmp/invoice.pdf" names
<workspace>/tmp/invoice.pdf.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from flow8_core.errors import InternalError, NotFound, ValidationFailed

GIB = 1 << 30
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TO_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: a pipe must not hold the worker
_TO_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_PLAIN = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EISDIR, errno.EMLINK)


class Workspace:
    """The folder `root` of one play. Files may have at most `max_bytes`. Thread-safe: it keeps nothing open."""

    def __init__(self, root: Path, *, max_bytes: int = 5 * GIB) -> None:
        self.root = root
        self.max_bytes = max_bytes

    def open_file(self, path: str, *, field: str = "file_path") -> BinaryIO:
        """A regular file, open for reading in binary. Close it.

        Raises `ValidationFailed` (the path is none, leads through a link, names no regular file, or the file is too
        large) and `NotFound`, both at `input_mapping.<field>`.
        """
        where = f"input_mapping.{field}"
        *folders, name = _names(path, where)
        with _reported(where), _open(self._walk(folders, create=False)) as folder:
            handle = os.open(name, _TO_READ, dir_fd=folder)
        try:
            self._check(os.fstat(handle), where)
            return os.fdopen(handle, "rb")
        except BaseException:
            os.close(handle)
            raise

    @contextmanager
    def create_file(self, path: str, *, field: str = "file_path") -> Iterator[WorkFile]:
        """A file to write, under another name until the block ends well; then it takes the place of any older one.

        Folders on the way are made. Raises as `open_file` does.
        """
        where = f"input_mapping.{field}"
        *folders, name = _names(path, where)
        part = f".{secrets.token_hex(8)}.part"
        with _reported(where):
            folder = self._walk(folders, create=True)
        with _open(folder):
            with _reported(where):
                handle = os.open(part, _TO_WRITE, 0o600, dir_fd=folder)
            try:
                with os.fdopen(handle, "wb") as stream:
                    file = WorkFile(stream, max_bytes=self.max_bytes, where=where)
                    yield file
                    stream.flush()
                    os.fsync(handle)
                if file.kept:
                    with _reported(where):
                        os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
            finally:
                with suppress(FileNotFoundError):  # it has its name by now, if all went well
                    os.unlink(part, dir_fd=folder)

    def _walk(self, names: list[str], *, create: bool) -> int:
        """The folder that `names` lead to, as a descriptor that the caller closes."""
        if create:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=folder)
                below = os.open(name, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = below
        except BaseException:
            os.close(folder)
            raise
        return folder

    def _check(self, found: os.stat_result, where: str) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise _not_plain(where)
        if found.st_size > self.max_bytes:
            raise ValidationFailed(f"The file is larger than {self.max_bytes:,} bytes.", path=where)


class WorkFile:
    """A file being written; `size` is what it holds so far, in bytes."""

    def __init__(self, stream: BinaryIO, *, max_bytes: int, where: str) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._where = where
        self.size = 0
        self.kept = True

    def write(self, data: bytes) -> int:
        """Append `data`. Raises `ValidationFailed` where the file would grow too large."""
        if self.size + len(data) > self._max_bytes:
            raise ValidationFailed(f"The file would be larger than {self._max_bytes:,} bytes.", path=self._where)
        self.size += len(data)
        return self._stream.write(data)

    def discard(self) -> None:
        """Let the file not appear when the block ends."""
        self.kept = False


def _names(path: str, where: str) -> list[str]:
    """The names that a path goes through, or a fault: no "..", no control characters, no folder at its end."""
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        raise ValidationFailed("The path is not proper text.", path=where) from None
    if length > MAX_PATH_BYTES:
        raise ValidationFailed(f"The path is longer than {MAX_PATH_BYTES} bytes.", path=where)
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise ValidationFailed("The path holds control characters.", path=where)
    if not path or path.endswith(("/", "/.")) or path == ".":
        raise ValidationFailed("The path names no file.", path=where)
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise ValidationFailed('The path must not hold "..": it is counted from the workspace.', path=where)
    if any(len(name.encode()) > MAX_NAME_BYTES for name in names):
        raise ValidationFailed(f"A name in the path is longer than {MAX_NAME_BYTES} bytes.", path=where)
    return names


@contextmanager
def _open(folder: int) -> Iterator[int]:
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _reported(where: str) -> Iterator[None]:
    """Operating system errors as faults of the path; anything that is not the path's fault is ours."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(
            "The workspace holds no such file. Put it there first (run --file NAME=PATH).", path=where
        ) from None
    except OSError as error:
        if error.errno in _NOT_PLAIN:
            raise _not_plain(where) from None
        raise InternalError(f"The workspace cannot be used: {os.strerror(error.errno or 0)}.") from error


def _not_plain(where: str) -> ValidationFailed:
    return ValidationFailed("The path names no regular file, or leads through a link.", path=where)
