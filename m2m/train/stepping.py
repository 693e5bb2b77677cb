"""Common parts of all training loops: reproducibility, learning-rate schedule, check for finite values.

References
----------
Loshchilov and Hutter (2017), cosine schedule, arXiv:1608.03983.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence

import torch


def schedule(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate: linear warm-up, then a cosine to 0.

    Parameters
    ----------
    step, steps : int
        Number of the step, from 0, and of all steps.
    warmup : float
        Fraction of the steps.

    Returns
    -------
    float
    """
    rise = warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def scheduled(steps: int, warmup: float, start: int, every: int) -> Callable[[int], float]:
    """Schedule of an optimiser that is not used in every training step.

    Parameters
    ----------
    steps, warmup
        As in `schedule`.
    start : int
        Training step of its first step.
    every : int
        Training steps from one of its steps to the next.

    Returns
    -------
    callable
        From the number of its own steps so far to the factor of the learning rate.
    """
    return lambda n: schedule(start + n * every, steps, warmup)


def make_reproducible(seed: int, device: torch.device) -> None:
    """Set the seed, and choose deterministic algorithms where the device has them."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    # PyTorch sets this attribute by its module's class, which mypy does not know.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(seed)


def require_finite(step: int, values: Mapping[str, float], units: Sequence[str]) -> None:
    """Raise FloatingPointError with step, terms and units if a value is not finite.

    Parameters
    ----------
    step : int
    values : mapping of str to float
        Loss terms and gradient norms by name.
    units : sequence of str
        Of the batch.
    """
    if bad := {name: value for name, value in values.items() if not math.isfinite(value)}:
        raise FloatingPointError(
            f"step {step}: {', '.join(f'{name} is {value}' for name, value in bad.items())}; "
            f"units of the batch: {', '.join(sorted(set(units)))}. Check their slices; "
            f"the last checkpoint is from an earlier step."
        )
