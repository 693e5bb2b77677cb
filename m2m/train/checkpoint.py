"""State of a training run on disk, so that a stopped run goes on where it was.

Each configuration has its own folder, named by its fingerprint. A checkpoint is loaded as
tensors and plain values only; nothing is unpickled into code. Its file ends with a checksum of all
that stands before, which is verified first: PyTorch loads many a flipped bit without a word.
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
# Of a state's names. One of another layout cannot be taken up, and is set aside.
LAYOUT = 2


class DamagedError(Exception):
    """A checkpoint's bytes are not those that were written."""


class OutdatedError(Exception):
    """A checkpoint is of an older m2m, which laid a training's state out otherwise."""


def checksum(archive: bytes) -> bytes:
    """SHA-256, as it stands at the end of a checkpoint."""
    return hashlib.sha256(archive).digest()


class Checkpoints:
    """Checkpoints of one configuration below a training folder; the newest two are kept.

    Parameters
    ----------
    training_dir : path
    configuration : mapping
        All that decides the result, as JSON values: options, data, split, code.

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
        """Write the state after `step` steps, whole or not at all, and drop the oldest ones."""
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
        """Read the newest checkpoint that is whole; None where there is none.

        A damaged one is renamed to ``step-*.damaged``, one of an older layout to
        ``step-*.outdated``; both are named on standard error, and the one before is read: the run
        repeats some steps. Where none is left it repeats all.

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
                self._set_aside(path, ".outdated", "is of an older m2m, and of another layout")
        return None

    def _set_aside(self, path: Path, suffix: str, problem: str) -> None:
        """Rename a checkpoint that cannot be taken up, and say so."""
        kept = path.rename(path.with_suffix(suffix))
        print(
            f"checkpoint {path} {problem}: going on from the one before it, or "
            f"from the start where there is none; the file is kept as {kept.name}",
            file=sys.stderr, flush=True,
        )  # fmt: skip

    def _checked(self, path: Path, content: bytes) -> dict[str, Any]:
        """State in a checkpoint's bytes, which are those that were written and of this run."""
        archive, found = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
        if checksum(archive) != found:
            raise DamagedError(f"its {len(content)} bytes differ from its checksum")
        try:
            state = torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise DataError(
                "checkpoint is not one of tensors and plain values only",
                file=path, value=type(error).__name__, remedy="delete the file",
            ) from error  # fmt: skip
        if state["fingerprint"] != self.fingerprint:
            raise DataError(
                "checkpoint belongs to another configuration"
                + self._differences(path.parent / CONFIGURATION),
                file=path,
                value=state["fingerprint"],
                remedy=f"delete the folder, or restore what was changed (now {self.fingerprint})",
            )
        if state.get("layout") != LAYOUT:
            raise OutdatedError
        return state

    def _paths(self) -> list[Path]:
        """Checkpoints of this configuration's folder, oldest first."""
        return sorted(self.folder.glob("step-*.ckpt"))

    def _differences(self, path: Path) -> str:
        """Names of what the configuration beside a checkpoint has otherwise."""
        if not path.exists():
            return ""
        other = read_json(path)
        names = sorted(set(other) | set(self.configuration))
        changed = [n for n in names if other.get(n) != self.configuration.get(n)]
        return f" (other {', '.join(changed)})" if changed else ""
