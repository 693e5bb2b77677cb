"""The adversarial loop: whole training, stopping and going on."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from m2m.io.modalities import MODALITIES
from m2m.models.building import CORRECTION
from m2m.models.fusion import fusion_of
from m2m.models.given import Synthesis
from m2m.models.inference import translate_volume, views_of
from m2m.models.record import METRIC, Fit
from m2m.models.uncertainty import Prediction
from m2m.options import Task, Trained
from m2m.train.adversarial import Loop
from m2m.train.checkpoint import Checkpoints
from m2m.train.closed_form import template_prior
from m2m.train.dataset import SliceBatches, Subject, whole_subject
from m2m.train.history import History
from m2m.train.judge import evenly, judge, to_mni
from m2m.train.stepping import make_reproducible, require_finite

LOG_EVERY = 10
STOPPED = 128 + signal.SIGTERM


@contextmanager
def listening_for_stop() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether SIGTERM came: the step in hand is finished first."""
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)


def gather(fabric: Fabric, values: Mapping[str, Tensor], stop: bool) -> tuple[dict, bool]:
    """Means of a step's values over processes, and whether any process was told to stop."""
    told = torch.tensor(float(stop), device=fabric.device)
    row = torch.stack([*(v.float() for v in values.values()), told])
    *means, told = fabric.all_reduce(row).tolist()
    return dict(zip(values, means, strict=True)), told > 0


@torch.no_grad()
def validate(
    fabric: Fabric,
    network: nn.Module,
    subjects: Sequence[Subject],
    task: Task,
    options: Trained,
) -> float:
    """Mean absolute error inside the target mask, mean over subjects; first orientation only."""
    limits = MODALITIES[task.target].limits
    errors = torch.zeros(len(subjects), device=fabric.device)
    for i in range(fabric.global_rank, len(subjects), fabric.world_size):
        total = count = 0.0
        for batch in whole_subject(
            subjects[i], options.planes[0], task.source, task.target,
            options.window.context, options.training.batch_size,
        ):  # fmt: skip
            batch = fabric.to_device(batch)
            image = network(batch["source"], batch["plane"], batch["position"]).image.clamp(*limits)
            error = (image - batch["target"]).abs().mean(dim=1, keepdim=True) * batch["mask"]
            total, count = total + error.sum(), count + batch["mask"].sum()
        errors[i] = total / count
    return float(fabric.all_reduce(errors, reduce_op="sum").mean())


def fit_network(
    fabric: Fabric,
    subjects: Mapping[str, Sequence[Subject]],
    task: Task,
    options: Trained,
    checkpoints: Checkpoints,
    encoder: nn.Module | None = None,
    synthesis: Synthesis | None = None,
) -> Fit:
    """Train, from the newest checkpoint if there is one, and give the weights to export.

    Parameters
    ----------
    fabric : Fabric
        Launched.
    subjects : mapping
        Of ``train`` and ``validation``; the averaged weights that validate best are given, or
        the last ones where there is nobody to validate on, or where labels are corrected: against
        labels that lie wrong a blurred translation validates best.
    task, options, checkpoints
        What from what, the model, and where its states are kept.
    encoder : Module or None
        Of the perceptual term.
    synthesis : Synthesis or None
        What a super-resolution starts from.

    Raises
    ------
    SystemExit
        Status 143 after SIGTERM, with the state saved: run again to go on.
    FloatingPointError
        A term or a gradient is not finite.
    """
    training = options.training
    make_reproducible(training.seed, fabric.device)
    channels = len(MODALITIES[task.target].channels)
    prior = template_prior(subjects["train"], task) if options.window.prior else None
    loop, best, start = Loop(fabric, options, channels, encoder, prior, synthesis), None, 0
    latest: dict[str, float] = {}  # adversarial terms are not of every step
    if state := load_together(fabric, checkpoints):
        loop.restore(state)
        best, start, latest = state["best"], state["step"], state.get("latest", latest)
    batches = training_batches(fabric, subjects["train"], task, options, loop.beside)
    judged = evenly(subjects["validation"], training.validation_subjects)
    history = History(checkpoints.folder, start, training.steps, fabric.is_global_zero)
    with listening_for_stop() as stop_wanted, closing(history):
        stream = batches.steps(start, training.steps, training.workers)
        for step, batch in enumerate(stream, start + 1):
            values = loop.update(step - 1, fabric.to_device(batch))
            values, stop = gather(fabric, values, stop_wanted())
            require_finite(step, values, batch["unit"])
            latest |= values
            last = step == training.steps
            if last or step == 1 or step % LOG_EVERY == 0:
                history.write(step, "train", latest, learning_rate=loop.learning_rate)
            if judged and (last or step % training.validate_every == 0):
                value = validate(fabric, loop.ema, judged, task, options)
                names = [subject.unit for subject in judged]
                history.write(step, "validation", {METRIC: value}, subjects=names)
                if best is None or value < best["value"] or "correction" in loop.makers:
                    best = {"step": step, "value": value, "weights": loop.weights()}
            if last or stop or step % training.checkpoint_every == 0:
                own = {"best": best, "latest": latest}
                save_together(fabric, checkpoints, step, loop.state() | own)
            history.bar.update()
            if stop:
                # One process tells: Lightning kills the first where another ends in failure.
                raise SystemExit(STOPPED if fabric.is_global_zero else 0)
    if best is None:
        best = {"step": training.steps, "value": None, "weights": loop.weights()}
    own = {n: w for n, w in best["weights"].items() if not n.startswith(CORRECTION)}
    loop.ema.load_state_dict(own)
    fitted = evenly(subjects["train"], training.validation_subjects)
    validation, uncertainty = judge(
        {"train": fitted, "validation": judged}, task, predictor(loop.ema, fabric, task, options)
    )
    tensors = {name: weight.numpy() for name, weight in best["weights"].items()}
    return Fit(tensors, validation, uncertainty, best["step"])


def predictor(
    network: nn.Module, fabric: Fabric, task: Task, options: Trained
) -> Callable[[Subject], Prediction]:
    """Function that translates a subject's whole volume, as `m2m translate` does."""
    device = str(fabric.device)

    def predict(subject: Subject) -> Prediction:
        source = subject.volume(task.source)
        return translate_volume(
            network, source.data, to_mni(subject) @ source.affine,
            batch_size=options.training.batch_size, device=device,
            fuse=fusion_of(options.fusion, device),
            low=subject.low_volume() if subject.low else None,
            **views_of(options, task.target),
        )  # fmt: skip

    return predict


def training_batches(
    fabric: Fabric, subjects: Sequence[Subject], task: Task, options: Trained, beside: int
) -> SliceBatches:
    """Batches of slices, or the share of them that this process takes."""
    training = options.training
    return SliceBatches(
        subjects, task.source, task.target, context=options.window.context,
        planes=options.planes, batch_size=training.batch_size, seed=training.seed,
        flip=training.flip, jitter=training.jitter, central_share=training.central_share,
        beside=beside, rank=fabric.global_rank, world=fabric.world_size,
    )  # fmt: skip


def load_together(fabric: Fabric, checkpoints: Checkpoints) -> dict[str, Any] | None:
    """Let the first process read: on a shared file system, others may not see the newest yet."""
    return fabric.broadcast(checkpoints.load() if fabric.is_global_zero else None)


def save_together(
    fabric: Fabric, checkpoints: Checkpoints, step: int, state: Mapping[str, Any]
) -> None:
    """Let the first process write; the others wait, so that none ends before it is done."""
    if fabric.is_global_zero:
        checkpoints.save(step, state)
    fabric.barrier()
