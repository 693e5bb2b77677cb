"""Evaluation of discriminators and feature networks in the generator's loss."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from m2m.objectives import losses


def score_frozen(discriminator: nn.Module, *inputs: Tensor) -> Any:
    """Output of a discriminator, with gradient to its inputs and none to its parameters.

    Parameters
    ----------
    discriminator : Module
    *inputs : Tensor

    Returns
    -------
    Tensor or DiscriminatorOutput
        Logits, or logits and features: whatever the discriminator returns.
    """
    fixed = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    return functional_call(discriminator, fixed, inputs)


class PerceptualDistance:
    """Distance between features of a frozen encoder, which is not part of the objective's saved state."""

    def __init__(self, encoder: nn.Module):
        self.encoder = encoder.requires_grad_(False).eval()

    def distance(self, image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Compute the distance between the features of two images.

        Parameters
        ----------
        image, target : Tensor, shape (N, C, H, W)
        mask : Tensor, shape (N, 1, H, W)

        Returns
        -------
        Tensor, shape ()
            Of `losses.feature_distance`.
        """
        self.encoder = self.encoder.to(image.device)
        return losses.feature_distance(self.encoder(image), self.encoder(target), mask)


def centre(batch: Mapping[str, Tensor]) -> Tensor:
    """Source slice that the target belongs to, (N, 1, H, W).

    After an odd number of source slices, the batch may have a low-resolution target as last channel.
    """
    source = batch["source"]
    return source[:, (source.shape[1] - 1) // 2, None]
