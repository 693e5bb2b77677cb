"""Atomic writing of files, and digests of values and files."""

import errno
import glob
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from m2m.io.errors import DataError, StorageError, unreadable

# Extensions of images that are read.
NIFTI, PAIRS, MGH = (".nii", ".nii.gz"), (".hdr", ".img", ".hdr.gz", ".img.gz"), (".mgh", ".mgz", ".mgh.gz")
READ = (*NIFTI, *PAIRS, *MGH)
# What else a path may lead to.
KINDS_OF_FILE = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# With less than a block free, a disk is full.
FULL_BYTES = 4096
# No JSON file, table of gradients or record of a model comes near this size.
MOST_TEXT_BYTES = 64 * 2**20


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name in the same folder; rename it to `path` when the block succeeds.

    The temporary name keeps the extensions, since some writers choose the format by them. The
    file is synchronised to disk before the rename, and has the permissions of any new file in the
    folder: some writers make a file that its owner alone can read. Temporary files of killed writers of
    the same file are removed.

    Yields
    ------
    Path
        The temporary name to write to.

    Raises
    ------
    StorageError
        The disk is full or read-only, or the user has no permission to write in the folder.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        mode = _mode_of_a_new_file(temporary)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
            if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) != mode:
                temporary.chmod(mode)
        temporary.replace(path)
    except Exception as error:
        if remedy := _storage_remedy(path.parent, error):
            raise StorageError(f"cannot write {path}: {remedy}") from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; NaN raises ValueError."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _kind(mode: int) -> str:
    return KINDS_OF_FILE.get(stat.S_IFMT(mode), "of another kind")


def require_regular(path: str | Path, what: str, most_bytes: float = float("inf")) -> None:
    """Check that a path leads to a regular file: reading a pipe or a device may never end.

    Parameters
    ----------
    path : path
    what : str
        Kind of file, for the message.
    most_bytes : float
        Largest size of a file of this kind.

    Raises
    ------
    DataError
        It is missing, of another kind, or too large.
    StorageError
        The storage does not answer.
    """
    path = Path(path)
    try:
        about = path.stat()
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno == errno.ELOOP:
            link = "the link's target is missing: fetch the file (git annex, datalad get)"
            again = "copy the file again, or list the dataset again"
            raise DataError(f"{what} is missing", file=path, remedy=link if path.is_symlink() else again) from error
        raise unreadable(error, f"{what} cannot be read", path, "check its name and its permissions") from error
    if not stat.S_ISREG(about.st_mode):
        raise DataError(
            f"{what} is not a regular file, but {_kind(about.st_mode)}",
            file=path,
            remedy="put the file itself there",
        )
    if about.st_size > most_bytes:
        raise DataError(
            f"{what} is too large",
            file=path,
            value=f"{about.st_size / 1e6:.4g} MB, at most {most_bytes / 1e6:.4g} MB",
            remedy="look at its content: this is no such file",
        )


def read_text(path: str | Path, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """Read a text file that may come from elsewhere.

    Parameters
    ----------
    path : path
    most_bytes : int
        Size that no sound file of this kind has.

    Returns
    -------
    str

    Raises
    ------
    OSError
        It is missing or cannot be opened.
    ValueError
        It is no regular file (a device or a pipe could be read for ever), larger, or no UTF-8 text.
    """
    path = Path(path)
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(f"is not a regular file, but {_kind(mode)}")
    with path.open("rb") as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"is larger than {most_bytes} bytes")
    return content.decode("utf-8")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    OSError
        It is missing or cannot be opened.
    ValueError
        It is no such file, too large or nested too deeply, or holds NaN, which JSON does not have.
    """
    text = read_text(path)
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("is not a JSON object")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"holds {name}")


def digest(value: object) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: str | Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _mode_of_a_new_file(path: Path) -> int:
    """Permissions that the umask, or the folder, gives a new file of this name; it is not left there.

    A link of this name, which a writer would follow, is removed too.
    """
    path.unlink(missing_ok=True)
    path.touch(exist_ok=False)
    mode = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    return mode


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose writers no longer run."""
    for name in path.parent.glob(f".*.{glob.escape(path.name)}"):
        pid = name.name.removesuffix(path.name).strip(".")
        if pid.isdigit() and not _is_running(int(pid)):
            name.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    """Whether a process with this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _storage_remedy(folder: Path, error: Exception) -> str:
    """Remedy where a write failed for lack of space or permission; empty for other errors."""
    if isinstance(error, DataError):
        return ""
    number = getattr(error, "errno", None)
    # Compiled libraries raise their own errors: with the system's message, or without it and a number.
    full = os.strerror(errno.ENOSPC) in str(error) or (
        not isinstance(error, OSError) and _free_bytes(folder) < FULL_BYTES
    )
    if full or number in (errno.ENOSPC, errno.EDQUOT):
        return "the disk or the quota is full; make room, then run the same command again"
    if number == errno.EROFS:
        return "the file system is read-only; mount it for writing, or set `results` elsewhere"
    if number in (errno.EACCES, errno.EPERM):
        return "you have no permission to write there; change it, or set `results` elsewhere"
    return ""


def _free_bytes(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return float("inf")
