"""The adversarial loop: one step, whole training, stopping and going on.

References
----------
Kim et al. (2024), Macro2Micro, arXiv:2412.11277; Kingma and Ba (2015), Adam, arXiv:1412.6980;
Loshchilov and Hutter (2017), cosine schedule, arXiv:1608.03983; Yazıcı et al. (2019), averaged
weights in adversarial training, arXiv:1806.04498.
"""

import copy
import math
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from m2m.dataset import Batch, SliceBatches, Subject, whole_subject
from m2m.field.fusion import fusion_of
from m2m.inference import translate_volume, views_of
from m2m.modalities import MODALITIES
from m2m.model import METRIC, Fit
from m2m.models.building import CORRECTION, build_network, build_objective
from m2m.models.given import Synthesis
from m2m.networks.inputs import TemplateMap
from m2m.options import Task, Trained
from m2m.train.checkpoint import Checkpoints
from m2m.train.closed_form import template_prior
from m2m.train.history import History
from m2m.train.judge import evenly, judge, to_mni
from m2m.uncertainty import Prediction

LOG_EVERY = 10
STOPPED = 128 + signal.SIGTERM


def schedule(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rates: a line up over the first share of steps, then a cosine to 0."""
    rise = warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def make_reproducible(seed: int, device: torch.device) -> None:
    """Seed, and choose deterministic algorithms wherever the device has them."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.manual_seed(seed)


class Loop:
    """Generator, its moving average, discriminators and their optimisers, step by step.

    Every process computes its share of a batch; gradients are averaged over processes, so that
    all hold the same weights: those that one process would have.

    Parameters
    ----------
    fabric : Fabric
        Launched.
    options : Trained
    channels : int
        Of the target.
    encoder : Module or None
        Of the perceptual term.
    prior : TemplateMap or None
        The training people's mean map, where the network sees it.
    synthesis : Synthesis or None
        What a super-resolution starts from.
    """

    def __init__(
        self,
        fabric: Fabric,
        options: Trained,
        channels: int = 1,
        encoder: nn.Module | None = None,
        prior: TemplateMap | None = None,
        synthesis: Synthesis | None = None,
    ):
        training = options.training
        self.fabric, self.training = fabric, training
        generator = build_network(options, channels, prior, synthesis)
        generator = generator.to(fabric.device, memory_format=torch.channels_last)
        self.generator = generator
        self.ema = copy.deepcopy(generator).requires_grad_(False).eval()
        frozen = synthesis.correction if synthesis else None
        self.objective = build_objective(options, channels, encoder, frozen).to(fabric.device)
        self.judges = self.objective.discriminators()
        self.makers = {"generator": generator, **self.objective.helpers()}
        makers, judges = (
            [w for network in side.values() for w in network.parameters() if w.requires_grad]
            for side in (self.makers, self.judges)
        )
        self.rates = {"generator": training.learning_rate}
        self.optimizers = {"generator": torch.optim.Adam(makers, betas=training.betas, fused=True)}
        if judges:
            self.rates["discriminators"] = self.objective.learning_rate
            # No momentum of the first kind, as is usual for an opponent that changes each step.
            betas = (0.0, training.betas[1])
            self.optimizers["discriminators"] = torch.optim.Adam(judges, betas=betas, fused=True)

    def update(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """Do one step in four moves: forward; discriminators; generator; moving average.

        Returns
        -------
        dict
            Terms of both sides, and the norm of each network's gradient.
        """
        factor = schedule(step, self.training.steps, self.training.warmup)
        self.learning_rate = factor * self.rates["generator"]
        source = batch["source"].contiguous(memory_format=torch.channels_last)
        with self.fabric.autocast():
            translation = self.generator(source, batch["plane"], batch["position"])
        first, every = self.objective.start, self.objective.every
        values, judged = {}, step >= first and (step - first) % every == 0
        if self.judges and judged:
            detached = translation._replace(image=translation.image.detach())
            with self.fabric.autocast():
                terms = self.objective.discriminator_terms(batch, detached)
            values |= self._descend("discriminators", terms, self.judges, factor)
        with self.fabric.autocast():
            terms = self.objective.generator_terms(batch, translation, self.generator, judged)
        values |= self._descend("generator", terms, self.makers, factor)
        self._follow(step)
        return values

    def _descend(
        self,
        side: str,
        terms: Mapping[str, Tensor],
        networks: Mapping[str, nn.Module],
        factor: float,
    ) -> dict[str, Tensor]:
        """Backward and one step of an optimiser; terms and gradient norms."""
        optimizer = self.optimizers[side]
        optimizer.zero_grad()
        sum(terms.values()).backward()
        values = {name: term.detach() for name, term in terms.items()}
        for name, network in networks.items():
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            self._average(gradients)
            values[f"grad_norm/{name}"] = nn.utils.get_total_norm(gradients)
        for group in optimizer.param_groups:
            group["lr"] = factor * self.rates[side]
        optimizer.step()
        return values

    def _average(self, gradients: Sequence[Tensor]) -> None:
        """Average gradients over processes, in one message."""
        if gradients and self.fabric.world_size > 1:
            flat = self.fabric.all_reduce(torch.cat([g.flatten() for g in gradients]))
            for gradient, mean in zip(
                gradients, flat.split([g.numel() for g in gradients]), strict=True
            ):
                gradient.copy_(mean.view_as(gradient))

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Move the average towards the weights; faster at first, since it starts at random."""
        share = 1 - min(self.training.ema_decay, (1 + step) / (10 + step))
        weights = self.generator.parameters()
        for average, weight in zip(self.ema.parameters(), weights, strict=True):
            average.lerp_(weight, share)

    def weights(self) -> dict[str, Tensor]:
        """What is exported: averaged weights, and those of a label correction as they are."""
        correction = self.objective.helpers().get("correction", nn.Module())
        moved = {f"{CORRECTION}{name}": weight for name, weight in snapshot(correction).items()}
        return snapshot(self.ema) | moved

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "generator": self.generator.state_dict(),
            "ema": self.ema.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        for name in ("generator", "ema", "objective"):
            getattr(self, name).load_state_dict(state[name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])


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


def require_finite(step: int, values: Mapping[str, float], units: Sequence[str]) -> None:
    """Raise FloatingPointError with step, terms and subjects where a value is not finite."""
    if bad := {name: value for name, value in values.items() if not math.isfinite(value)}:
        raise FloatingPointError(
            f"step {step}: {', '.join(f'{name} is {value}' for name, value in bad.items())}; "
            f"subjects of the batch: {', '.join(sorted(set(units)))}. Look at their slices; "
            f"the last checkpoint is from before."
        )


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
    batches = training_batches(fabric, subjects["train"], task, options, loop.objective.beside)
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
            fuse=fusion_of(options, device),
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


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Copy of a network's weights, on the CPU."""
    return {name: weight.detach().cpu().clone() for name, weight in network.state_dict().items()}
