"""Training log: JSON lines, TensorBoard and a progress bar."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from m2m.io.files import write_text

METRICS = "metrics.jsonl"


def json_lines(rows: list[Mapping[str, Any]]) -> str:
    """Write one JSON object per line; NaN is an error."""
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a last line that a crash left incomplete is ignored."""
    complete = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in complete]


class History:
    """Rows of training and validation; a resumed run continues from its checkpoint.

    Parameters
    ----------
    folder : Path
        Gets ``metrics.jsonl`` and ``tensorboard/``. Existing rows after `start` are dropped: the
        run repeats these steps.
    start, steps : int
        Steps done so far, and in total.
    active : bool
        True in the first process only: the others write nothing.
    """

    def __init__(self, folder: Path, start: int, steps: int, active: bool):
        self.path, self.active, self.begun = folder / METRICS, active, time.monotonic()
        # A terminal is redrawn often; in a log file every update is a new line.
        interval = 0.5 if sys.stderr.isatty() else 20
        self.bar = tqdm(
            initial=start, total=steps, unit="step", mininterval=interval, maxinterval=interval, disable=not active
        )
        if active:
            rows = read_rows(self.path) if self.path.exists() else []
            write_text(self.path, json_lines([row for row in rows if start and row["step"] <= start]))
            self.board = SummaryWriter(folder / "tensorboard", purge_step=start + 1)

    def write(self, step: int, split: str, values: Mapping[str, float], **more: Any) -> None:
        """Add a row.

        Parameters
        ----------
        step : int
            Steps done.
        split : {"train", "validation"}
        values : mapping of str to float
        **more
            Further values, for the JSON lines only.
        """
        if not self.active:
            return
        seconds = round(time.monotonic() - self.begun, 3)
        row = {"step": step, "split": split, "seconds": seconds, **values, **more}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json_lines([row]))
        for name, value in values.items():
            self.board.add_scalar(f"{split}/{name}", value, step)
        if split == "validation":
            self.bar.set_postfix({k: f"{v:.4f}" for k, v in values.items()}, refresh=False)

    def close(self) -> None:
        """Flush buffers and close the files."""
        self.bar.close()
        if self.active:
            self.board.close()
