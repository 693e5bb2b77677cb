"""The training loop: from the first step or a checkpoint to the end, or until it is stopped."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from m2m.io.modalities import MODALITIES
from m2m.models.building import CORRECTION
from m2m.models.fusion import fusion_of, with_atlas
from m2m.models.inference import translate_volume, views_of
from m2m.models.prerequisites import Synthesis
from m2m.models.record import METRIC, Fit
from m2m.models.reference_map import PRIOR, TO_VOXEL, deformed_map, given_map
from m2m.models.torch_engine import torch_engine
from m2m.models.uncertainty import Prediction
from m2m.networks.slice_inputs import TemplateMap
from m2m.options import Task, Trained
from m2m.train.adversarial import Loop
from m2m.train.checkpoint import Checkpoints
from m2m.train.closed_form import as_prior, displacement_of, template_prior
from m2m.train.dataset import SliceBatches, Subject, whole_subject
from m2m.train.deformed_places import with_places
from m2m.train.fine_tuning import Start
from m2m.train.history import History
from m2m.train.stepping import make_reproducible, require_finite
from m2m.train.validation import evenly, to_mni, validate_model

LOG_EVERY = 10
STOPPED = 128 + signal.SIGTERM


@contextmanager
def listening_for_stop() -> Iterator[Callable[[], bool]]:
    """Provide a function that tells whether SIGTERM was received; the current step is completed first.

    Yields
    ------
    callable
        Returns bool.
    """
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)


def gather(fabric: Fabric, values: Mapping[str, Tensor], stop: bool) -> tuple[dict[str, float], bool]:
    """Average the values of a step over processes, and tell whether any process received SIGTERM.

    Parameters
    ----------
    fabric : Fabric
    values : mapping of str to Tensor
        Scalars.
    stop : bool
        Whether this process received SIGTERM.

    Returns
    -------
    dict of str to float
    bool
    """
    flag = torch.tensor(float(stop), device=fabric.device)
    row = torch.stack([*(v.float() for v in values.values()), flag])
    reduced = fabric.all_reduce(row)
    assert isinstance(reduced, Tensor), "a tensor is reduced to a tensor"
    *means, stops = reduced.tolist()
    return dict(zip(values, means, strict=True)), stops > 0


@torch.no_grad()
def validate(
    fabric: Fabric,
    network: nn.Module,
    subjects: Sequence[Subject],
    task: Task,
    options: Trained,
) -> float:
    """Mean absolute error inside the target mask, mean over subjects; first orientation only.

    Parameters
    ----------
    fabric : Fabric
    network : Module
    subjects : sequence of Subject
        Divided among the processes.
    task : Task
    options : Trained
        Options of the model.

    Returns
    -------
    float
        In scaled units.
    """
    limits = MODALITIES[task.target].limits
    errors = torch.zeros(len(subjects), device=fabric.device)
    for i in range(fabric.global_rank, len(subjects), fabric.world_size):
        total = count = 0.0
        for batch in whole_subject(
            subjects[i],
            options.planes[0],
            task.source,
            task.target,
            options.window.context,
            None if options.stack else options.training.batch_size,
        ):
            batch = fabric.to_device(batch)
            image = network(batch["source"], batch["plane"], batch["position"]).image.clamp(*limits)
            error = (image - batch["target"]).abs().mean(dim=1, keepdim=True) * batch["mask"]
            total, count = total + error.sum(), count + batch["mask"].sum()
        errors[i] = total / count
    reduced = fabric.all_reduce(errors, reduce_op="sum")
    assert isinstance(reduced, Tensor), "a tensor is reduced to a tensor"
    return float(reduced.mean())


def fit_network(
    fabric: Fabric,
    subjects: Mapping[str, Sequence[Subject]],
    task: Task,
    options: Trained,
    checkpoints: Checkpoints,
    encoder: nn.Module | None = None,
    synthesis: Synthesis | None = None,
    start: Start | None = None,
    root: Path | None = None,
) -> Fit:
    """Train, from the newest checkpoint if there is one, and return the weights to export.

    The averaged weights with the best validation value are exported. The last weights are exported
    instead if there are no validation subjects, or if labels are corrected: measured against
    misaligned labels, a blurred prediction has the smallest error. Weights to start from are validated, too:
    where training makes them worse, they are exported as they are.

    Parameters
    ----------
    fabric : Fabric
        Launched.
    subjects : mapping
        Subjects of ``train`` and ``validation``.
    task : Task
    options : Trained
        Options of the model.
    checkpoints : Checkpoints
    encoder : Module or None
        Feature encoder of the perceptual term.
    synthesis : Synthesis or None
        Model that a super-resolution model starts from.
    start : Start or None
        Trained weights that the network starts from.
    root : Path or None
        Dataset of the results, with the deformations of a model that uses them.

    Returns
    -------
    Fit

    Raises
    ------
    SystemExit
        Status 143 after SIGTERM, with the state saved; the same command continues.
    FloatingPointError
        A loss term or a gradient is not finite.
    """
    training = options.training
    make_reproducible(training.seed, fabric.device)
    channels = len(MODALITIES[task.target].channels)
    deformations = root if options.uses_deformation else None
    if deformations and options.window.deformed:
        directed = MODALITIES[task.target].directed
        subjects = with_places(subjects, directed, deformations, checkpoints.folder / "places")
    prior = prior_of_training(subjects["train"], task, options, start, deformations)
    loop = Loop(fabric, options, channels, encoder, prior, synthesis, start.tensors if start else None)
    best, done = None, 0
    latest: dict[str, float] = {}  # adversarial terms are not computed in every step
    if state := load_together(fabric, checkpoints):
        loop.restore(state)
        best, done, latest = state["best"], state["step"], state.get("latest", latest)
    batches = training_batches(fabric, subjects["train"], task, options, loop.correction_context)
    validation_set = evenly(subjects["validation"], training.validation_subjects)
    history = History(checkpoints.folder, done, training.steps, fabric.is_global_zero)
    with listening_for_stop() as stop_wanted, closing(history):
        if start and validation_set and not done:
            best = validated(fabric, loop, validation_set, task, options, history, 0)
        stream = batches.steps(done, training.steps, training.workers)
        for step, batch in enumerate(stream, done + 1):
            terms = loop.update(step - 1, fabric.to_device(batch))
            values, stop = gather(fabric, terms, stop_wanted())
            require_finite(step, values, batch["unit"])
            latest |= values
            last = step == training.steps
            if last or step == 1 or step % LOG_EVERY == 0:
                history.write(step, "train", latest, learning_rate=loop.learning_rate)
            if validation_set and (last or step % training.validate_every == 0):
                found = validated(fabric, loop, validation_set, task, options, history, step)
                if best is None or found["value"] < best["value"] or "correction" in loop.generator_modules:
                    best = found
            if last or stop or step % training.checkpoint_every == 0:
                progress = {"best": best, "latest": latest}
                save_together(fabric, checkpoints, step, loop.state() | progress)
            history.bar.update()
            if stop:
                # Only the first process fails: Lightning kills it if another process fails.
                raise SystemExit(STOPPED if fabric.is_global_zero else 0)
    if best is None:
        best = {"step": training.steps, "value": None, "weights": loop.weights()}
    weights = {n: w for n, w in best["weights"].items() if not n.startswith(CORRECTION)}
    loop.ema.load_state_dict(weights)
    # Without validation participants, training participants are translated in their place.
    fitted = subjects["train"] if validation_set else evenly(subjects["train"], training.validation_subjects)
    predict = predictor(loop.ema, fabric, task, options, deformations)
    validation, uncertainty, ranges = validate_model(
        {"train": fitted, "validation": validation_set}, task, predict, deformations
    )
    tensors = {name: weight.numpy() for name, weight in best["weights"].items()}
    return Fit(tensors, validation, uncertainty, best["step"], ranges)


def validated(
    fabric: Fabric,
    loop: Loop,
    subjects: Sequence[Subject],
    task: Task,
    options: Trained,
    history: History,
    step: int,
) -> dict[str, Any]:
    """Step, validation value and weights after so many steps; the value goes to the history."""
    value = validate(fabric, loop.ema, subjects, task, options)
    history.write(step, "validation", {METRIC: value}, subjects=[subject.unit for subject in subjects])
    return {"step": step, "value": value, "weights": loop.weights()}


def prior_of_training(
    subjects: Sequence[Subject], task: Task, options: Trained, start: Start | None, deformations: Path | None
) -> TemplateMap | None:
    """The given prior, or that of the start, where it has one; otherwise the training participants' mean map."""
    if not options.window.prior:
        return None
    spacing_mm = options.prior_spacing_mm or subjects[0].record["spacing_mm"]
    if options.prior_map:
        return as_prior(given_map(options.prior_map, spacing_mm, MODALITIES[task.target]), spacing_mm, task.target)
    return (start and start.prior) or template_prior(subjects, task, deformations, spacing_mm)


def predictor(
    network: nn.Module, fabric: Fabric, task: Task, options: Trained, root: Path | None = None
) -> Callable[[Subject], Prediction]:
    """Function that predicts the whole volume of a subject, as `m2m translate` does.

    Parameters
    ----------
    network : Module
    fabric : Fabric
    task : Task
    options : Trained
        Options of the model.
    root : Path or None
        Dataset of the results, for a model that uses deformations.

    Returns
    -------
    callable
        From a Subject to its Prediction.
    """
    device = str(fabric.device)

    def predict(subject: Subject) -> Prediction:
        source = subject.volume(task.source)
        prediction = translate_volume(
            torch_engine(network, device),
            source.data,
            to_mni(subject) @ source.affine,
            batch_size=options.training.batch_size,
            fuse=fusion_of(options.fusion, device),
            low_res=subject.low_res_volume() if subject.low_res else None,
            places=subject.deformed() if subject.deformed else None,
            **views_of(options, task.target),
        )
        if root is None or not options.atlas_share:
            return prediction
        state = network.state_dict()
        tensors = {name: state[name].numpy(force=True) for name in (PRIOR, TO_VOXEL)}
        displacement = displacement_of(subject, "deformation", root).data
        atlas = deformed_map(tensors, source.affine, to_mni(subject), displacement)
        return with_atlas(prediction, atlas, options.atlas_share)

    return predict


def training_batches(
    fabric: Fabric, subjects: Sequence[Subject], task: Task, options: Trained, correction_context: int
) -> SliceBatches:
    """Batches of slices, or the share of this process.

    Parameters
    ----------
    fabric : Fabric
    subjects : sequence of Subject
        Training subjects.
    task : Task
    options : Trained
        Options of the model.
    correction_context : int
        Number of slices for a label correction: see `m2m.train.dataset.read_slice`.

    Returns
    -------
    SliceBatches
    """
    training = options.training
    return SliceBatches(
        subjects,
        task.source,
        task.target,
        context=options.window.context,
        planes=options.planes,
        batch_size=training.batch_size,
        seed=training.seed,
        stack=options.stack,
        flip=training.flip,
        jitter=training.jitter,
        augment=training.augment,
        central_share=training.central_share,
        correction_context=correction_context,
        rank=fabric.global_rank,
        world=fabric.world_size,
    )


def load_together(fabric: Fabric, checkpoints: Checkpoints) -> dict[str, Any] | None:
    """Let the first process read: on a shared file system, others may not have the newest file yet."""
    return fabric.broadcast(checkpoints.load() if fabric.is_global_zero else None)


def save_together(fabric: Fabric, checkpoints: Checkpoints, step: int, state: Mapping[str, Any]) -> None:
    """Let the first process write, while the others wait until it has finished.

    Parameters
    ----------
    fabric : Fabric
    checkpoints : Checkpoints
    step : int
        Steps done.
    state : mapping
        Of `Loop.state`.
    """
    if fabric.is_global_zero:
        checkpoints.save(step, state)
    fabric.barrier()
