"""State of a training run on disk, so that a stopped run continues.

Each configuration has its own folder, named by its fingerprint. A checkpoint is loaded as
tensors and plain values only; no code is unpickled. Each file ends with a checksum of its content,
which is verified first: PyTorch loads many files with a flipped bit without an error.
"""

import hashlib
import io
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from m2m.io.errors import DataError
from m2m.io.files import digest, read_json, whole, write_json

CONFIGURATION = "configuration.json"
CHECKSUM_BYTES = 32
# Version of the names in a state. A checkpoint of another layout cannot be loaded, and is set aside.
LAYOUT = 2


class DamagedError(Exception):
    """The bytes of a checkpoint differ from those that were written."""


class OutdatedError(Exception):
    """A checkpoint was written by an older version of m2m, with another layout of the state."""


def checksum(archive: bytes) -> bytes:
    """SHA-256, as written at the end of a checkpoint."""
    return hashlib.sha256(archive).digest()


class Checkpoints:
    """Checkpoints of one configuration below a training folder; the newest two are kept.

    Parameters
    ----------
    training_dir : path
    configuration : mapping
        Everything that determines the result, as JSON values: options, data, split, code.

    Attributes
    ----------
    fingerprint : str
        Digest of the configuration.
    folder : Path
        ``<training_dir>/<fingerprint>``.
    """

    def __init__(self, training_dir: str | Path, configuration: Mapping[str, Any]):
        self.configuration = configuration
        self.fingerprint = digest(configuration)
        self.folder = Path(training_dir) / self.fingerprint

    def save(self, step: int, state: Mapping[str, Any], keep: int = 2) -> Path:
        """Write the state after `step` steps atomically, and delete old checkpoints.

        Parameters
        ----------
        step : int
            Number of steps done.
        state : mapping
            Tensors and plain values.
        keep : int
            Number of newest checkpoints to keep.

        Returns
        -------
        Path
            The file.
        """
        write_json(self.folder / CONFIGURATION, self.configuration)
        path = self.folder / f"step-{step:08d}.ckpt"
        with whole(path) as temporary:
            archive = io.BytesIO()
            about = {"fingerprint": self.fingerprint, "layout": LAYOUT, "step": step}
            torch.save({**about, **state}, archive)
            temporary.write_bytes(archive.getvalue() + checksum(archive.getvalue()))
        for old in self._paths()[:-keep]:
            old.unlink()
        return path

    def load(self) -> dict[str, Any] | None:
        """Read the newest intact checkpoint; None if there is none.

        A damaged checkpoint is renamed to ``step-*.damaged``, one of an older layout to
        ``step-*.outdated``. Both are reported on standard error, and the previous one is read: the
        run repeats some steps, or all of them if no checkpoint is left.

        Raises
        ------
        DataError
            The checkpoint belongs to another configuration, or holds more than plain values.
        """
        for path in reversed(self._paths()):
            try:
                return self._checked(path, path.read_bytes())
            except DamagedError as damage:
                self._set_aside(path, ".damaged", f"is damaged ({damage})")
            except OutdatedError:
                self._set_aside(path, ".outdated", "was written by an older m2m, with another layout")
        return None

    def _set_aside(self, path: Path, suffix: str, problem: str) -> None:
        """Rename a checkpoint that cannot be loaded, and report it."""
        kept = path.rename(path.with_suffix(suffix))
        print(
            f"checkpoint {path} {problem}: continuing from the previous one, or "
            f"from the start if there is none; the file is kept as {kept.name}",
            file=sys.stderr,
            flush=True,
        )

    def _checked(self, path: Path, content: bytes) -> dict[str, Any]:
        """Decode the bytes of a checkpoint, after checking that they are intact and of this run."""
        archive, found = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
        if checksum(archive) != found:
            raise DamagedError(f"its {len(content)} bytes differ from its checksum")
        try:
            state = torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise DataError(
                "checkpoint does not hold tensors and plain values only",
                file=path,
                value=type(error).__name__,
                remedy="delete the file",
            ) from error
        if state["fingerprint"] != self.fingerprint:
            raise DataError(
                "checkpoint belongs to another configuration" + self._differences(path.parent / CONFIGURATION),
                file=path,
                value=state["fingerprint"],
                remedy=f"delete the folder, or restore what was changed (now {self.fingerprint})",
            )
        if state.get("layout") != LAYOUT:
            raise OutdatedError
        return state

    def _paths(self) -> list[Path]:
        """Checkpoints of this configuration, oldest first."""
        return sorted(self.folder.glob("step-*.ckpt"))

    def _differences(self, path: Path) -> str:
        """Names of the keys in which the configuration next to a checkpoint differs."""
        if not path.exists():
            return ""
        other = read_json(path)
        names = sorted(set(other) | set(self.configuration))
        changed = [n for n in names if other.get(n) != self.configuration.get(n)]
        return f" (other {', '.join(changed)})" if changed else ""
