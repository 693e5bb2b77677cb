"""State of a training run on disk, so that a stopped run goes on where it was.

Each configuration has its own folder, named by its fingerprint. A checkpoint is loaded as
tensors and plain values only; nothing is unpickled into code.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from m2m.stage import DataError, digest, read_json, whole, write_json

CONFIGURATION = "configuration.json"


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
            torch.save({"fingerprint": self.fingerprint, "step": step, **state}, temporary)
        for old in self._paths()[:-keep]:
            old.unlink()
        return path

    def load(self) -> dict[str, Any] | None:
        """Read the newest checkpoint; None where there is none.

        Raises
        ------
        DataError
            The checkpoint belongs to another configuration, or cannot be read.
        """
        if not (paths := self._paths()):
            return None
        path = paths[-1]
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            raise DataError(
                f"checkpoint cannot be read: {error}", file=path, remedy="delete the file"
            ) from error
        if state["fingerprint"] != self.fingerprint:
            raise DataError(
                "checkpoint belongs to another configuration"
                + self._differences(path.parent / CONFIGURATION),
                file=path,
                value=state["fingerprint"],
                remedy=f"delete the folder, or restore what was changed (now {self.fingerprint})",
            )
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
