"""Two kinds of errors: bad data, recorded as a finding about one file, and failing storage."""

import errno
import traceback
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path

from m2m.io.quoting import MOST_OF_PROBLEM, MOST_OF_VALUE, printable, shown


@dataclass(frozen=True)
class Finding:
    """A problem with one file of one participant, and its remedy.

    Attributes
    ----------
    unit, stage : str
        Where it was found.
    problem, file, value, remedy : str
        As in `DataError`.
    """

    unit: str
    stage: str
    problem: str
    file: str = ""
    value: str = ""
    remedy: str = ""

    def __post_init__(self) -> None:
        for name in ("unit", "problem", "file", "value", "remedy"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    def __str__(self) -> str:
        where = f" in {self.file}" if self.file else ""
        value = f" (found {self.value})" if self.value else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.unit}: {self.problem}{value}{where}{remedy}"


class DataError(Exception):
    """Bad data: recorded with participant, file, value and remedy; the other participants go on.

    Parameters
    ----------
    problem : str
        Message; shortened like `value`.
    file : path
        The bad file.
    value : object
        Value found in it; of a long one, the first characters are quoted, in one line.
    remedy : str
        What the user can do.
    """

    def __init__(self, problem: str, *, file: str | Path = "", value: object = "", remedy: str = ""):
        # A library's message may have several lines.
        self.problem = printable(" ".join(problem.split()), MOST_OF_PROBLEM)
        super().__init__(self.problem)
        self.file, self.value, self.remedy = printable(str(file)), printable(str(value), MOST_OF_VALUE), remedy

    def __str__(self) -> str:
        return str(Finding("", "", self.problem, self.file, self.value, self.remedy))[2:]


class StorageError(OSError):
    """The disk is full or does not respond: the job fails and can be retried."""


class Kept(Exception):
    """Raised in place of a stage's work where its results are there and up to date."""


def unreadable(error: Exception, problem: str, path: str | Path, remedy: str) -> DataError:
    """Make a `DataError` for a file that cannot be read, unless the storage failed.

    Parameters
    ----------
    error : Exception
        The reader's error; its message is quoted unless a link leads out of the dataset.
    problem : str
        First part of the message.
    path : path
        The file.
    remedy : str
        What the user can do.

    Returns
    -------
    DataError

    Raises
    ------
    StorageError
        The storage failed, so that a second attempt may succeed.
    """
    if isinstance(error, OSError) and error.errno in FAILING:
        raise StorageError(
            f"cannot read {path}: {error.strerror}; check the disk or the network, then run the same command again"
        ) from error
    return DataError(f"{problem}: {shown(str(error), path)}", file=path, remedy=remedy)


def unexpected(error: Exception, path: str | Path = "") -> DataError:
    """Make a `DataError` of an error that was not foreseen, while one scan was processed.

    The traceback is printed, so that the log shows where it was raised.

    Parameters
    ----------
    error : Exception
    path : path
        The scan, where it is known.

    Returns
    -------
    DataError

    Raises
    ------
    Exception
        The error itself, where it is the machine's: memory, storage, a missing library or program.
    """
    if of_machine(error):
        raise error
    traceback.print_exception(error)
    return DataError(
        f"unexpected {type(error).__name__}: {error}",
        file=path,
        remedy="look at the scan; the log has the whole message: please report it, this should be a finding of its own",
    )


def of_machine(error: Exception) -> bool:
    """Whether an error is the machine's, so that another attempt may succeed, and not a scan's."""
    if isinstance(error, (StorageError, MemoryError, ImportError, BrokenExecutor)):
        return True
    if isinstance(error, OSError):
        return error.errno in FAILING or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    # Accelerators raise errors of many classes, by which they would have to be imported here.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in ("cuda", "out of memory", "allocate"))


# Errors of the machine or the network, not of the file itself.
FAILING = {
    errno.EIO,
    errno.ESTALE,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EAGAIN,
    errno.EINTR,
    errno.ENODEV,
    errno.ENXIO,
    errno.EREMOTEIO,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ECONNRESET,
    errno.ECONNABORTED,
}
