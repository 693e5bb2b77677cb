"""What every training in steps does, whatever it trains: reproducible, on a schedule, finite.

References
----------
Loshchilov and Hutter (2017), cosine schedule, arXiv:1608.03983.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence

import torch


def schedule(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rates: a line up over the first share of steps, then a cosine to 0."""
    rise = warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def scheduled(steps: int, warmup: float, start: int, every: int) -> Callable[[int], float]:
    """Factor of the learning rate by the number of an optimiser's own steps, before this one.

    It does them in each `every`-th step of the training, from `start` on.
    """
    return lambda n: schedule(start + n * every, steps, warmup)


def make_reproducible(seed: int, device: torch.device) -> None:
    """Seed, and choose deterministic algorithms wherever the device has them."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.manual_seed(seed)


def require_finite(step: int, values: Mapping[str, float], units: Sequence[str]) -> None:
    """Raise FloatingPointError with step, terms and subjects where a value is not finite."""
    if bad := {name: value for name, value in values.items() if not math.isfinite(value)}:
        raise FloatingPointError(
            f"step {step}: {', '.join(f'{name} is {value}' for name, value in bad.items())}; "
            f"subjects of the batch: {', '.join(sorted(set(units)))}. Look at their slices; "
            f"the last checkpoint is from before."
        )
