"""Distributed training: one batch shared by several processes, sums over all of them.

Of `n` processes, process `i` holds slices i, i + n, i + 2 n, … of every batch. With one process,
the functions here return their input. All processes must call the same functions in the same order.
"""

import torch
import torch.distributed
from torch import Tensor


def place() -> tuple[int, int]:
    """Rank of this process, from 0, and number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def total(own: Tensor) -> Tensor:
    """Sum over processes.

    The gradient goes to the summand of this process only, times the number of processes. The mean
    over processes is then the gradient of one process that holds the whole batch.
    """
    _, n = place()
    if n == 1:
        return own
    everything = own.detach().clone()
    torch.distributed.all_reduce(everything)
    scaled = n * own
    return scaled + (everything - scaled.detach())


def share(batch: Tensor, dim: int = 0) -> Tensor:
    """Select the slices of the whole batch that this process holds."""
    i, n = place()
    return batch if n == 1 else batch[(slice(None),) * dim + (slice(i, None, n),)]


def whole_batch(own: Tensor) -> Tensor:
    """Gather the shares (N, …) of all processes, (n N, …); without gradients."""
    _, n = place()
    if n == 1:
        return own
    shares = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(n)]
    torch.distributed.all_gather(shares, own.contiguous())
    return torch.stack(shares, dim=1).flatten(0, 1)
