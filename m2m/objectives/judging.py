"""Discriminators asked for their judgement, and what they and encoders see."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.func import functional_call

from m2m.objectives import losses


def judge_frozen(discriminator: nn.Module, *inputs: Tensor) -> Tensor:
    """Logits that carry gradient to the inputs and none to the discriminator's parameters."""
    fixed = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    return functional_call(discriminator, fixed, inputs)


class Perception:
    """A network that images are compared in; no part of what learns, or of its saved state."""

    def __init__(self, encoder: nn.Module):
        self.encoder = encoder.requires_grad_(False).eval()

    def distance(self, image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Distance of features (`losses.feature_distance`) of two images (N, C, H, W)."""
        self.encoder = self.encoder.to(image.device)
        return losses.feature_distance(self.encoder(image), self.encoder(target), mask)


def centre(batch: Mapping[str, Tensor]) -> Tensor:
    """Slice of the source that the target belongs to, (N, 1, H, W).

    Behind an odd number of slices there may be a low resolution of the target.
    """
    source = batch["source"]
    return source[:, (source.shape[1] - 1) // 2, None]
