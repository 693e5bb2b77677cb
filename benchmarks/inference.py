"""Time of translating slices of 256 x 256 pixels: our network, the published one, pix2pix.

All run in one process, one after the other in every round, so that other load of the machine affects
all of them. Weights are random: time does not depend on them. Multiply-accumulate operations are
counted by PyTorch.

    python benchmarks/inference.py --out benchmarks/inference.md
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from m2m.models.building import build_network
from m2m.networks.slice_inputs import TemplateMap
from m2m.options import load_config

ROOT = Path(__file__).resolve().parents[1]
MODELS = (
    ("config.yaml", "m2m"),
    ("config.yaml", "macro2micro"),
    ("config.yaml", "macro2micro-2023"),
    ("config.yaml", "pix2pix"),
    ("config.yaml", "unet"),
    ("config.paper.yaml", "macro2micro"),
    ("config.paper.yaml", "pix2pix"),
)


def networks(small_only: bool) -> dict[str, tuple[nn.Module, int]]:
    """Build networks with random weights; with each, its number of input slices."""
    found = {}
    for file, name in MODELS:
        if small_only and file != "config.yaml":
            continue
        model = load_config(ROOT / file).models[name]
        # A prior of the template's size; its values do not matter.
        prior = TemplateMap(torch.zeros(1, 66, 78, 63), torch.eye(4))
        network = build_network(model, 1, prior).eval()
        key, context = f"{name} ({file})", model.window.context
        found[key] = network.to(memory_format=torch.channels_last), context
        if name == "macro2micro-2023":
            as_published = build_network(model).eval()
            found[f"{key}, as published: channels first"] = as_published, context
    return found


def inputs(batch: int, context: int, device: str, size: int) -> tuple[torch.Tensor, ...]:
    """Make slices, orientations and positions.

    Parameters
    ----------
    batch, context : int
        Numbers of slices and of neighbouring slices.
    device : str
    size : int
        Pixels along an edge.

    Returns
    -------
    slices : Tensor, shape (batch, context, size, size)
    planes : Tensor, shape (batch,)
    position : Tensor, shape (batch, 3, size, size)
    """
    slices = torch.rand(batch, context, size, size)
    planes, position = torch.zeros(batch, dtype=torch.long), torch.zeros(batch, 3, size, size)
    return tuple(x.to(device) for x in (slices, planes, position))


def seconds(call: Callable[[], object], device: str) -> float:
    """Time one call, in seconds."""
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.inference_mode()
def measure(device: str, batch: int, rounds: int, size: int) -> list[tuple[str, float, float, float, float]]:
    """Measure each network.

    Parameters
    ----------
    device : str
    batch, rounds, size : int

    Returns
    -------
    list of tuple
        Name, parameters in millions, GMAC per slice, median and largest ms per slice.
    """
    found = {
        name: (network.to(device), inputs(batch, context, device, size))
        # Networks of the published width take seconds for 16 slices on a CPU.
        for name, (network, context) in networks(device == "cpu" and batch > 1).items()
    }
    times: dict[str, list[float]] = {name: [] for name in found}
    for i in range(rounds + 3):
        for name, (network, given) in found.items():
            value = seconds(lambda n=network, g=given: n(*g), device)
            if i >= 3:
                times[name].append(1e3 * value / batch)
    rows = []
    for name, (network, given) in found.items():
        with FlopCounterMode(display=False) as counter:
            network(*given)
        parameters = sum(p.numel() for p in network.parameters()) / 1e6
        gmac = counter.get_total_flops() / 2e9 / batch
        rows.append((name, parameters, gmac, statistics.median(times[name]), max(times[name])))
    return rows


def main() -> None:
    """Measure on every device, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=int, default=256, help="pixels along an edge of a slice")
    found = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    parser.add_argument("--devices", nargs="+", default=found, choices=found)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    devices, size = arguments.devices, arguments.size
    lines = [
        f"`python benchmarks/inference.py`: slices of {size} x {size} pixels, ms a slice in one pass "
        "(a map of a model with `mirror` takes two), median "
        f"of {arguments.rounds} rounds after 3 (in brackets the slowest). "
        f"PyTorch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads"
        + (f"; {torch.cuda.get_device_name()}." if "cuda" in devices else "; no GPU."),
        "",
        "| device | batch | network | parameters, M | GMAC a slice | ms a slice | images per second |",
        "|---|---|---|---|---|---|---|",
    ]
    for device in devices:
        for batch in (1, 16):
            for name, parameters, gmac, median, slowest in measure(device, batch, arguments.rounds, size):
                numbers = f"{parameters:.2f} | {gmac:.2f} | {median:.1f} ({slowest:.1f}) | {1e3 / median:.0f}"
                lines.append(f"| {device} | {batch} | {name} | {numbers} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
