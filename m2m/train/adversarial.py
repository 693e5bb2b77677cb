"""One step of adversarial training, with the whole state that the next step depends on.

References
----------
Kim et al. (2024), Macro2Micro, arXiv:2412.11277.
Kingma and Ba (2015), Adam, arXiv:1412.6980.
Yazıcı et al. (2019), averaged weights in adversarial training, arXiv:1806.04498.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from m2m.models.building import CORRECTION, build_corrected_labels, build_network, build_objective
from m2m.models.prerequisites import Synthesis
from m2m.networks.layout import placed
from m2m.networks.slice_inputs import TemplateMap
from m2m.objectives.objective import StepContext
from m2m.options import Trained
from m2m.train.dataset import Batch
from m2m.train.stepping import scheduled

Weights = tuple[Tensor, ...] | list[Tensor]


def moving_average(decay: float) -> Callable[[Weights, Weights, Tensor | int], None]:
    """Update rule of the exponential moving average; early steps decay faster: the start is random."""

    @torch.no_grad()
    def update(averages: Weights, weights: Weights, n_averaged: Tensor | int) -> None:
        step = int(n_averaged) - 1  # the first averaged weights are the initial ones
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + step) / (10 + step)))

    return update


class Loop:
    """Generator, its moving average, discriminators and their optimisers, step by step.

    Every process computes its share of a batch. Gradients are averaged over processes, so that
    all processes hold the weights that a single process would have.

    Parameters
    ----------
    fabric : Fabric
        Launched.
    options : Trained
        Options of the model.
    channels : int
        Channels of the target.
    encoder : Module or None
        Feature encoder of the perceptual term.
    prior : TemplateMap or None
        Mean map of the training participants, if it is an input of the network.
    synthesis : Synthesis or None
        Model that a super-resolution model starts from.
    start : mapping of str to Tensor
        Weights of the generator to start from, and from which averaging starts; others are random.

    Attributes
    ----------
    ema : Module
        The generator with averaged weights, for validation and export.
    generator_modules, discriminators : dict of str to Module
        Modules trained with the generator, and the discriminators, by name.
    correction_context : int
        Number of slices for the label correction: see `m2m.train.dataset.read_slice`.
    learning_rate : float
        Of the generator, in the last step.
    """

    def __init__(
        self,
        fabric: Fabric,
        options: Trained,
        channels: int = 1,
        encoder: nn.Module | None = None,
        prior: TemplateMap | None = None,
        synthesis: Synthesis | None = None,
        start: Mapping[str, Tensor] | None = None,
    ):
        self.fabric = fabric
        generator = build_network(options, channels, prior, synthesis)
        generator.load_state_dict(start or {}, strict=False)
        self.generator = placed(generator, fabric.device)
        self.average = AveragedModel(self.generator, multi_avg_fn=moving_average(options.training.ema_decay))
        self.average.requires_grad_(False).eval()
        self.average.update_parameters(self.generator)
        self.ema = self.average.module
        self.objective = build_objective(options, channels, encoder).to(fabric.device)
        correction = synthesis.correction if synthesis else None
        self.labels = build_corrected_labels(options, channels, correction)
        self.generator_modules: dict[str, nn.Module] = {"generator": self.generator}
        self.correction_context = 0
        if self.labels is not None:
            self.generator_modules["correction"] = self.labels.to(fabric.device).correction
            self.correction_context = self.labels.correction.context
        self.generator_modules |= self.objective.helpers
        self.discriminators = dict(self.objective.discriminators)
        self.make_optimizers(options)

    def make_optimizers(self, options: Trained) -> None:
        """Make an optimiser for generator and discriminators; learning rates follow the schedule."""
        training, objective = options.training, self.objective
        sides = {"generator": (self.generator_modules, training.learning_rate, training.betas, 0, 1)}
        if self.discriminators:
            # No first-order momentum, as usual in adversarial training: the opponent changes each step.
            betas = (0.0, training.betas[1])
            sides["discriminators"] = (
                self.discriminators,
                objective.learning_rate,
                betas,
                objective.start,
                objective.every,
            )
        self.optimizers: dict[str, Adam] = {}
        self.schedulers: dict[str, LambdaLR] = {}
        for side, (networks, rate, betas, start, every) in sides.items():
            weights = [w for n in networks.values() for w in n.parameters() if w.requires_grad]
            self.optimizers[side] = Adam(weights, lr=rate, betas=betas, fused=True)
            self.schedulers[side] = LambdaLR(
                self.optimizers[side], scheduled(training.steps, training.warmup, start, every)
            )

    def update(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """Do one step: forward pass, discriminators, generator, moving average.

        Parameters
        ----------
        step : int
            Number of the step, from 0.
        batch : dict
            Of `m2m.train.dataset.SliceBatches`, on the device.

        Returns
        -------
        dict
            Loss terms of generator and discriminators, and each network's gradient norm.
        """
        (self.learning_rate,) = self.schedulers["generator"].get_last_lr()
        corrected = None
        values: dict[str, Tensor] = {}
        source = batch["source"].contiguous(memory_format=torch.channels_last)
        with self.fabric.autocast():
            output = self.objective.translate(self.generator, batch | {"source": source})
        if self.labels is not None:
            with self.fabric.autocast():
                corrected = self.labels(batch, step)
        context = StepContext(
            corrected.batch if corrected else batch, output, self.generator, step, self.objective.adversarial(step)
        )
        if self.discriminators and context.adversarial:
            detached = output._replace(image=output.image.detach())
            with self.fabric.autocast():
                terms = self.objective.discriminator_terms(context._replace(output=detached))
            values |= self._descend("discriminators", terms, self.discriminators)
        with self.fabric.autocast():
            terms = self.objective.generator_terms(context)
            if self.labels is not None and corrected:
                terms |= self.labels.terms(batch, output, corrected.misalignment)
        values |= self._descend("generator", terms, self.generator_modules)
        self.average.update_parameters(self.generator)
        return values

    def _descend(self, side: str, terms: Mapping[str, Tensor], networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Backward pass and one step of an optimiser; returns terms and gradient norms."""
        optimizer = self.optimizers[side]
        optimizer.zero_grad()
        total = sum(terms.values())
        assert isinstance(total, Tensor), "every objective has a term"
        total.backward()
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

        `Fabric.setup` cannot be used. Its DistributedDataParallel expects one forward pass of each
        network before each backward pass, but here generators are called several times per step,
        and discriminators as functions of detached weights. It also gives a gradient of 0 to
        parameters that are not used in a step (a correction, a discriminator's head), and Adam
        would count it.
        """
        if gradients and self.fabric.world_size > 1:
            flat = self.fabric.all_reduce(torch.cat([g.flatten() for g in gradients]))
            assert isinstance(flat, Tensor), "a tensor is reduced to a tensor"
            for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))

    def weights(self) -> dict[str, Tensor]:
        """Weights to export: averaged for the generator, not averaged for a label correction."""
        correction = snapshot(self.generator_modules.get("correction", nn.Module()))
        corrected = {f"{CORRECTION}{name}": weight for name, weight in correction.items()}
        return snapshot(self.ema) | corrected

    def _parts(self) -> dict[str, Any]:
        """Objects with a state, by their name in a checkpoint."""
        parts = {
            "generator": self.generator,
            "average": self.average,
            "objective": self.objective,
            **{f"optimizer of {side}": part for side, part in self.optimizers.items()},
            **{f"schedule of {side}": part for side, part in self.schedulers.items()},
        }
        return parts if self.labels is None else parts | {"labels": self.labels}

    def state(self) -> dict[str, Any]:
        """State that the next step depends on."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load a saved state."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Copy the weights of a network to the CPU."""
    return {name: weight.detach().cpu().clone() for name, weight in network.state_dict().items()}
