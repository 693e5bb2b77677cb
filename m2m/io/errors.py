"""Bad data as a finding about one file, and storage that fails: two kinds of errors."""

import errno
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """What is wrong with one file of one subject, and what to do about it."""

    unit: str
    stage: str
    problem: str
    file: str = ""
    value: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        where = f" in {self.file}" if self.file else ""
        value = f" (found {self.value})" if self.value else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.unit}: {self.problem}{value}{where}{remedy}"


class DataError(Exception):
    """Bad data: recorded with subject, file, value and remedy; the cohort goes on without it."""

    def __init__(
        self, problem: str, *, file: str | Path = "", value: object = "", remedy: str = ""
    ):
        self.problem = " ".join(problem.split())  # a library's error may have lines
        super().__init__(self.problem)
        self.file, self.value, self.remedy = str(file), str(value), remedy

    def __str__(self) -> str:
        return str(Finding("", "", self.problem, self.file, self.value, self.remedy))[2:]


class StorageError(OSError):
    """The disk is full or does not answer: not the data, so the job fails and can be retried."""


def unreadable(error: Exception, problem: str, path: str | Path, remedy: str) -> DataError:
    """Say that a file cannot be read: a finding about a person, unless the storage failed.

    Raises
    ------
    StorageError
        Reading it again may go through.
    """
    if isinstance(error, OSError) and error.errno in FAILING:
        raise StorageError(
            f"cannot read {path}: {error.strerror}; see to the disk or the network, then run the "
            "same command again"
        ) from error
    return DataError(f"{problem}: {error}", file=path, remedy=remedy)


# Of the machine or of the network, not of the file that was asked for.
FAILING = {
    errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR,
    errno.ENODEV, errno.ENXIO, errno.EREMOTEIO, errno.ENOTCONN, errno.ETIMEDOUT,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNRESET, errno.ECONNABORTED,
}  # fmt: skip
