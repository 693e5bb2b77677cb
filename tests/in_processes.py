"""Program of the processes in tests/test_processes.py: steps of every family, or m2m under observation.

in_processes.py steps <slices folder> <file to write>
in_processes.py stop <number of the process> <step> <arguments of m2m>
in_processes.py note <folder> <arguments of m2m>
"""

import os
import signal
import sys
from pathlib import Path

import torch
from small_families import ALONE, small

from m2m.cli import app
from m2m.networks.feature_encoder import SliceEncoder
from m2m.networks.processes import place
from m2m.options import Task, Training
from m2m.train.closed_form import template_prior
from m2m.train.dataset import SliceBatches, find_subjects
from m2m.train.launch import make_fabric
from m2m.train.loop import Loop, gather, training_batches
from m2m.train.stepping import make_reproducible

TRAINING = Training(steps=9, batch_size=4)
# Options that switch on all loss terms of a family.
FURTHER = {
    "macro2micro": {
        "losses": {"mse": 1.0, "perceptual": 1.0},
        "perceptual": {"network": "self"},
        "discriminators": {"width": 4, "crops": 2, "crop_size": 8, "every": 2},
    },
    "fgdl-cms": {"discriminator": {"width": 2, "every": 1}, "correct_labels": {"widths": (4, 4)}},
}
FAMILIES = {name: small(name, training=TRAINING, **FURTHER.get(name, {})) for name in ALONE}


def steps(fabric, slices, n=3):
    """Terms and gradient norms of each family's first steps, and gradients of the last."""
    found = {}
    parts = {f"sub-{i:02d}": "train" for i in range(3)}
    subjects = find_subjects(slices, parts, "t1", "fa")[0]["train"]
    for name, options in FAMILIES.items():
        make_reproducible(1, fabric.device)
        perceptual = options.features.network == "self"
        encoder = SliceEncoder(1, (4, 4)) if perceptual else None
        prior = template_prior(subjects, Task()) if options.window.prior else None
        loop = Loop(fabric, options, encoder=encoder, prior=prior)
        batches = training_batches(fabric, subjects, Task(), options, loop.correction_context)
        for step in range(n):
            values, _ = gather(fabric, loop.update(step, batches[step]), False)
            found |= {f"{name}/{step}/{key}": value for key, value in values.items()}
        networks = {**loop.generator_modules, **loop.discriminators}
        found |= {
            f"{name}/{n - 1}/gradient/{part}": torch.cat(
                [p.grad.flatten() for p in network.parameters() if p.grad is not None]
            )
            for part, network in networks.items()
        }
    return found


def stop_at(number, step):
    """Send SIGTERM to the process of this number when it draws the batch of a step."""
    draw = SliceBatches.__getitem__

    def drawn(self, index):
        if (place()[0], index) == (number, step):
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(self, index)

    SliceBatches.__getitem__ = drawn


def note_writers(folder):
    """Record the files that each process of torchrun opens for writing or renames in a folder."""
    noted = (folder / f"process-{os.environ['RANK']}.txt").open("w", buffering=1)

    def note(event, arguments):
        opened = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        path = arguments[0] if opened else arguments[1] if event == "os.rename" else None
        if isinstance(path, str | Path) and Path(path).is_relative_to(folder):
            noted.write(f"{Path(path).name}\n")

    sys.addaudithook(note)


if __name__ == "__main__":
    what, first, second, *arguments = sys.argv[1:]
    if what == "steps":
        fabric = make_fabric(TRAINING)
        fabric.launch()
        found = steps(fabric, Path(first))
        if fabric.is_global_zero:
            torch.save(found, second)
    elif what == "stop":
        stop_at(int(first), int(second))
        app(arguments)
    else:
        note_writers(Path(first))
        app([second, *arguments])
