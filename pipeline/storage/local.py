"""A store on a local or mounted disk, with the promises of an object store.

Files are written under a temporary name beside their target, flushed to the disk, and then renamed (``put``) or
hard-linked (``put_if_absent``, where the link fails if the name is taken). A crash leaves at most a temporary file.
"""

import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from pipeline.storage.base import PROBE_PREFIX, TEMP_PREFIX, Store
from pipeline.storage.errors import AccessDenied, ObjectNotFound, StoreError

MIN_FREE_BYTES = 64 * 2**20
MIN_FREE_FILES = 1000
"""A disk with less room is full before the first images are there."""

_MAX_FOLDER_ATTEMPTS = 5
_RETRYABLE = {errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}
_NO_HARD_LINKS = "commits need hard links, which this file system seems to lack; use another folder"
_HINTS = {
    errno.EACCES: "check the owner and the mode of the file and its folders",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EEXIST: "a part of the path is a file, not a folder",
    errno.EISDIR: "this is a folder",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.ENOENT: "the file does not exist",
    errno.ENOSPC: "the disk is full; free some space",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EROFS: "the file system is read-only",
}


class LocalStore(Store):
    """Files under a folder, which is made by the first write."""

    def __init__(self, root: str) -> None:
        super().__init__(str(Path(root).absolute()))

    def get(self, key: str) -> bytes:
        """See ``Store.get``."""
        with self.open(key) as file, self._translated("read", key):
            return _whole(file.read())

    def get_at_most(self, key: str, max_bytes: int) -> bytes:
        """See ``Store.get_at_most``; a file whose size is below its content (``/proc``) is not read further."""
        with self.open(key) as file, self._translated("read", key):
            self._check_size(key, os.fstat(file.fileno()).st_size, max_bytes)
            data = _whole(file.read(max_bytes + 1))
        self._check_size(key, len(data), max_bytes)
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """See ``Store.get_range``."""
        with self.open(key) as file, self._translated("read", key):
            file.seek(start)
            return _whole(file.read(length))

    def put(self, key: str, data: bytes, *, content_type: str | None = None) -> None:
        """See ``Store.put``."""
        with self._translated("write", key), self._staged("write", key, data) as (temp, path):
            temp.replace(path)

    def _create(self, key: str, data: bytes) -> bool:
        with self._translated("create", key), self._staged("create", key, data) as (temp, path):
            try:
                path.hardlink_to(temp)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                    code = errno.errorcode[error.errno]
                    raise StoreError("create", self.uri_of(key), code, _NO_HARD_LINKS) from error
                raise
            return True

    def size(self, key: str) -> int | None:
        """See ``Store.size``."""
        self._check_key("read", key)
        try:
            with self._translated("read", key):
                status = Path(self.uri_of(key)).stat()
        except ObjectNotFound:
            return None
        return None if stat.S_ISDIR(status.st_mode) else status.st_size

    def list(self, prefix: str = "") -> Iterator[str]:
        """See ``Store.list``; links to folders are not followed."""
        if prefix:
            self._check_key("list", prefix)
        folder = self.uri_of(prefix.rpartition("/")[0])
        with self._translated("list", prefix):
            for parent, _, names in os.walk(folder, onerror=_raise_unless_gone):
                base = "" if Path(parent) == Path(self.uri) else Path(parent).relative_to(self.uri).as_posix() + "/"
                for name in names:
                    if not name.startswith(TEMP_PREFIX) and (base + name).startswith(prefix):
                        yield base + name

    def delete(self, key: str) -> None:
        """See ``Store.delete``; emptied folders stay."""
        self._check_key("delete", key, is_new=True)
        path = Path(self.uri_of(key))
        with self._translated("delete", key), suppress(FileNotFoundError, NotADirectoryError):
            if not path.is_dir():  # a folder is no object
                path.unlink()
                _flush_folder(path.parent)

    def open(self, key: str) -> BufferedReader:
        """See ``Store.open``; a plain file, read as the system does."""
        self._check_key("read", key)
        with self._translated("read", key):
            number = os.open(self.uri_of(key), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            mode = os.fstat(number).st_mode
            if stat.S_ISREG(mode):
                return os.fdopen(number, "rb")
            os.close(number)
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        hint = "only regular files are read, no devices and pipes"  # which may never end, or never begin
        raise StoreError("read", self.uri_of(key), "NotAFile", hint)

    def check_writable(self) -> None:
        """See ``Store.check_writable``; no empty folder is left behind, and there has to be some room on the disk."""
        super().check_writable()
        self._check_room()
        with suppress(OSError):  # another check may be using it
            Path(self.uri_of(PROBE_PREFIX)).rmdir()

    def _check_room(self) -> None:
        with self._translated("write", ""):
            room = os.statvfs(self.uri)
        num_bytes, num_files = room.f_bavail * room.f_frsize, room.f_favail
        if num_bytes < MIN_FREE_BYTES:
            left, needed = num_bytes // 2**20, MIN_FREE_BYTES // 2**20
            hint = f"{left} MiB are left on the disk, at least {needed} are needed; free some space"
            raise StoreError("keep a run at", self.uri, "ENOSPC", hint)
        if room.f_files and num_files < MIN_FREE_FILES:  # some file systems do not count them
            hint = f"only {num_files} more files fit on the disk (df -i); remove some"
            raise StoreError("keep a run at", self.uri, "ENOSPC", hint)

    @contextmanager
    def _staged(self, action: str, key: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        """A flushed temporary file and the path it is meant for; makes durable what the caller did with them.

        The folder is flushed even if the name turned out to be taken: the caller will report that it exists, which a
        crash must not take back.
        """
        self._check_key(action, key, is_new=True)
        path = Path(self.uri_of(key))
        temp = path.parent / f"{TEMP_PREFIX}{os.getpid()}-{uuid.uuid4().hex}"
        try:
            with os.fdopen(_create_file(temp), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temp, path
            _flush_folder(path.parent)
        finally:
            temp.unlink(missing_ok=True)

    @contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            number = error.errno or 0
            code = errno.errorcode.get(number, type(error).__name__)
            hint = _HINTS.get(number, error.strerror or "")
            is_missing = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
            if action == "read" and is_missing:
                raise ObjectNotFound(action, self.uri_of(key), code, hint) from error
            if isinstance(error, PermissionError):
                raise AccessDenied(action, self.uri_of(key), code, hint) from error
            raise StoreError(action, self.uri_of(key), code, hint, number in _RETRYABLE) from error


def _whole(data: bytes | None) -> bytes:
    """What was read; a file of the kernel's may have nothing to say yet."""
    if data is None:
        raise OSError(errno.EAGAIN, "it has nothing to read now")
    return data


def _create_file(path: Path) -> int:
    """The descriptor of a new file, whose folders are made as needed; the mode follows the process's umask."""
    for _ in range(_MAX_FOLDER_ATTEMPTS):
        _make_folder(path.parent)
        with suppress(FileNotFoundError):  # someone removed the empty folder at this very moment
            return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    raise FileNotFoundError(errno.ENOENT, "the folder is being removed all the time", str(path.parent))


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents, each durably."""
    if folder.is_dir():
        return
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _flush_folder(made.parent)


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # removed since, with the names that were to be kept
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
