"""One step of adversarial training, and all that the next one depends on.

References
----------
Kim et al. (2024), Macro2Micro, arXiv:2412.11277; Kingma and Ba (2015), Adam, arXiv:1412.6980;
Yazıcı et al. (2019), averaged
weights in adversarial training, arXiv:1806.04498.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from m2m.models.building import CORRECTION, build_moved_labels, build_network, build_objective
from m2m.models.given import Synthesis
from m2m.networks.slice_inputs import TemplateMap
from m2m.objectives.objective import StepContext
from m2m.options import Trained
from m2m.train.dataset import Batch
from m2m.train.stepping import scheduled


def following(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    """How averaged weights follow the newest: faster at first, since they start at random."""

    @torch.no_grad()
    def follow(averages: list[Tensor], weights: list[Tensor], n_averaged: Tensor) -> None:
        step = int(n_averaged) - 1  # the first of those averaged are the weights at the start
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + step) / (10 + step)))

    return follow


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

    Attributes
    ----------
    ema : Module
        The generator with averaged weights, to validate and to export.
    makers, judges : dict of str to Module
        What learns on the generator's side, and the discriminators, by name.
    beside : int
        As of `m2m.train.dataset.read_slice`: slices of target and source that are looked at
        besides.
    learning_rate : float
        The generator's, in the step done last.
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
        self.fabric = fabric
        generator = build_network(options, channels, prior, synthesis)
        self.generator = generator.to(fabric.device, memory_format=torch.channels_last)
        self.average = AveragedModel(
            self.generator, multi_avg_fn=following(options.training.ema_decay)
        )
        self.average.requires_grad_(False).eval()
        self.average.update_parameters(self.generator)
        self.ema = self.average.module
        self.objective = build_objective(options, channels, encoder).to(fabric.device)
        learnt = synthesis.correction if synthesis else None
        self.labels = build_moved_labels(options, channels, learnt)
        self.makers: dict[str, nn.Module] = {"generator": self.generator}
        self.beside = 0
        if self.labels is not None:
            self.makers["correction"] = self.labels.to(fabric.device).correction
            self.beside = self.labels.correction.context
        self.makers |= self.objective.helpers
        self.judges = dict(self.objective.discriminators)
        self.make_optimizers(options)

    def make_optimizers(self, options: Trained) -> None:
        """Make an optimiser for each side; its learning rate follows the schedule of all steps."""
        training, objective = options.training, self.objective
        sides = {"generator": (self.makers, training.learning_rate, training.betas, 0, 1)}
        if self.judges:
            # No momentum of the first kind, as is usual for an opponent that changes each step.
            betas = (0.0, training.betas[1])
            sides["discriminators"] = (
                self.judges, objective.learning_rate, betas, objective.start, objective.every
            )  # fmt: skip
        self.optimizers: dict[str, Adam] = {}
        self.schedulers: dict[str, LambdaLR] = {}
        for side, (networks, rate, betas, start, every) in sides.items():
            weights = [w for n in networks.values() for w in n.parameters() if w.requires_grad]
            self.optimizers[side] = Adam(weights, lr=rate, betas=betas, fused=True)
            self.schedulers[side] = LambdaLR(
                self.optimizers[side], scheduled(training.steps, training.warmup, start, every)
            )

    def update(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """Do one step in four moves: forward; discriminators; generator; moving average.

        Returns
        -------
        dict
            Terms of both sides, and the norm of each network's gradient.
        """
        (self.learning_rate,) = self.schedulers["generator"].get_last_lr()
        source, values, moved = batch["source"], {}, None
        source = source.contiguous(memory_format=torch.channels_last)
        with self.fabric.autocast():
            output = self.generator(source, batch["plane"], batch["position"])
        if self.labels is not None:
            with self.fabric.autocast():
                moved = self.labels(batch, step)
        context = StepContext(
            moved.batch if moved else batch, output, self.generator, step,
            self.objective.adversarial(step),
        )  # fmt: skip
        if self.judges and context.adversarial:
            detached = output._replace(image=output.image.detach())
            with self.fabric.autocast():
                terms = self.objective.discriminator_terms(context._replace(output=detached))
            values |= self._descend("discriminators", terms, self.judges)
        with self.fabric.autocast():
            terms = self.objective.generator_terms(context)
            if moved:
                terms |= self.labels.terms(batch, output, moved.misalignment)
        values |= self._descend("generator", terms, self.makers)
        self.average.update_parameters(self.generator)
        return values

    def _descend(
        self, side: str, terms: Mapping[str, Tensor], networks: Mapping[str, nn.Module]
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
        optimizer.step()
        self.schedulers[side].step()
        return values

    def _average(self, gradients: Sequence[Tensor]) -> None:
        """Average gradients over processes, in one message.

        Not by `Fabric.setup`, whose DistributedDataParallel wants each network's own forward
        before each backward, and gives a gradient of 0 to what took no part in a step, which Adam
        would count: generators are called several times a step, discriminators as functions of
        detached weights, and a correction or a discriminator's head may stand aside.
        """
        if gradients and self.fabric.world_size > 1:
            flat = self.fabric.all_reduce(torch.cat([g.flatten() for g in gradients]))
            for gradient, mean in zip(
                gradients, flat.split([g.numel() for g in gradients]), strict=True
            ):
                gradient.copy_(mean.view_as(gradient))

    def weights(self) -> dict[str, Tensor]:
        """What is exported: averaged weights, and those of a label correction as they are."""
        correction = snapshot(self.makers.get("correction", nn.Module()))
        moved = {f"{CORRECTION}{name}": weight for name, weight in correction.items()}
        return snapshot(self.ema) | moved

    def _parts(self) -> dict[str, Any]:
        """All that has a state, by its name in a checkpoint."""
        parts = {
            "generator": self.generator, "average": self.average, "objective": self.objective,
            **{f"optimizer of {side}": part for side, part in self.optimizers.items()},
            **{f"schedule of {side}": part for side, part in self.schedulers.items()},
        }  # fmt: skip
        return parts if self.labels is None else parts | {"labels": self.labels}

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Copy of a network's weights, on the CPU."""
    return {name: weight.detach().cpu().clone() for name, weight in network.state_dict().items()}
