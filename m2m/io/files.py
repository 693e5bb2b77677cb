"""Files whole or absent, and digests of values and files."""

import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from m2m.io.errors import DataError, StorageError

# With less than a block free, a disk is full.
FULL_BYTES = 4096


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary name in the same folder; rename it to `path` when the block succeeds.

    The temporary name keeps the file's extensions, so that writers which look at them agree. Its
    bytes are on the disk before the rename, and what a killed writer of the same file left is
    removed.

    Raises
    ------
    StorageError
        The disk is full or read-only, or the folder is not the user's to write in.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except Exception as error:
        if remedy := _storage_remedy(path.parent, error):
            raise StorageError(f"cannot write {path}: {remedy}") from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


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


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose writers are no more."""
    for name in path.parent.glob(f".*.{glob.escape(path.name)}"):
        pid = name.name.removesuffix(path.name).strip(".")
        if pid.isdigit() and not _is_running(int(pid)):
            name.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    """Whether a process of this machine has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _storage_remedy(folder: Path, error: Exception) -> str:
    """What to do where a write failed for want of space or permission; empty for other errors."""
    if isinstance(error, DataError):
        return ""
    number = getattr(error, "errno", None)
    # Libraries in other languages have errors of their own: with the words, or with neither.
    full = os.strerror(errno.ENOSPC) in str(error) or (
        not isinstance(error, OSError) and _free_bytes(folder) < FULL_BYTES
    )
    if full or number in (errno.ENOSPC, errno.EDQUOT):
        return "the disk or the quota is full; make room, then run the same command again"
    if number == errno.EROFS:
        return "the file system is read-only; mount it for writing, or set `results` elsewhere"
    if number in (errno.EACCES, errno.EPERM):
        return (
            "you may not write there; change the folder's permissions, or set `results` elsewhere"
        )
    return ""


def _free_bytes(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return float("inf")
