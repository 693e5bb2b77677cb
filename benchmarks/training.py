"""Images per second of one full update of generator and discriminators: our recipe and the published one.

The published recipe: the network of 2023, StyleGAN2's residual discriminator (28.9 M parameters), a
co-occurrence discriminator of the published size (24.5 M, 8 crops of 128 pixels), VGG19 features,
discriminators in every step. Ours: m2m of config.yaml, as it trains there, and with its
discriminators in every step. All use the same random slices, in one process, in alternating rounds.

    python benchmarks/training.py --size 256 --batch 8 --out benchmarks/training.md

torchrun starts it in several processes, which share the batch. The precision is bf16 where the hardware has it.
"""

import argparse
import platform
import statistics
import time
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from m2m.networks.discriminators import LEAK, PatchDiscriminator
from m2m.networks.feature_encoder import Vgg19Features
from m2m.networks.slice_inputs import TemplateMap
from m2m.options import Trained, Training, load_config
from m2m.options.families.macro2micro import Macro2Micro
from m2m.options.families.macro2micro_2023 import Published2023
from m2m.train.launch import make_fabric
from m2m.train.loop import Loop
from m2m.train.stepping import make_reproducible

ROOT = Path(__file__).resolve().parents[1]
CHANNELS = (128, 256, 512, 512, 512, 512, 512)  # of StyleGAN2, from 256 to 4 pixels


class StyleBlock(nn.Module):
    """Residual block of StyleGAN2's discriminator; halves height and width."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.second = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H / 2, W / 2)."""
        y = F.leaky_relu(self.second(F.leaky_relu(self.first(x), LEAK)), LEAK)
        return (y + self.shortcut(x)) / 2**0.5


class StyleDiscriminator(nn.Module):
    """Image discriminator of the published recipe (Karras et al. 2020), for one channel."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, CHANNELS[0], 1)
        self.blocks = nn.Sequential(*(StyleBlock(a, b) for a, b in pairwise(CHANNELS)))
        self.last = nn.Conv2d(CHANNELS[-1] + 1, CHANNELS[-1], 3, padding=1)
        self.head = nn.Sequential(nn.Linear(16 * CHANNELS[-1], CHANNELS[-1]), nn.LeakyReLU(LEAK), nn.Linear(512, 1))

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        """Score images, (N, 1, H, W) to (N, 1); the source image is not used."""
        x = self.blocks(F.leaky_relu(self.stem(image), LEAK))  # (N, 512, H/64, W/64)
        spread = x.std(dim=0, correction=0).mean().expand(len(x), 1, *x.shape[2:])
        x = F.leaky_relu(self.last(torch.cat([x, spread], 1)), LEAK)  # (N, 512, H/64, W/64)
        return self.head(F.adaptive_avg_pool2d(x, 4).flatten(1))  # (N, 1)


def published_loop(fabric: Fabric) -> Loop:
    """Build the published recipe at its published size."""
    options = Published2023.model_validate({"discriminators": {"width": 8, "crops": 8, "crop_size": 128}})
    loop = Loop(fabric, options, encoder=Vgg19Features())
    loop.objective.discriminators["image_discriminator"] = StyleDiscriminator()
    loop.objective.discriminators["patch_discriminator"] = PatchDiscriminator(105, 128)
    return rebuilt(loop, options)


def rebuilt(loop: Loop, options: Trained) -> Loop:
    """Move the replaced discriminators to the device and make their optimiser."""
    loop.objective.to(loop.fabric.device)
    loop.discriminators = dict(loop.objective.discriminators)
    loop.make_optimizers(options)
    return loop


def own_loop(fabric: Fabric, every: int | None = None) -> Loop:
    """Build m2m of config.yaml; `every` is the interval of discriminator steps, if given."""
    options = load_config(ROOT / "config.yaml").models["m2m"]
    assert isinstance(options, Macro2Micro)
    if every:
        discriminators = options.discriminators.model_copy(update={"every": every})
        options = options.model_copy(update={"discriminators": discriminators})
    prior = TemplateMap(torch.zeros(1, 66, 78, 63), torch.eye(4))
    return Loop(fabric, options, prior=prior)


def batch_of(n: int, size: int, context: int, device: torch.device) -> dict[str, Tensor]:
    """Make random slices with a disc as brain.

    Parameters
    ----------
    n, size, context : int
        Slices in the batch, pixels along an edge, neighbouring slices.
    device : torch.device

    Returns
    -------
    dict of str to Tensor
        Images have shape (n, channels, size, size).
    """
    line = torch.linspace(-1, 1, size)
    brain = (line[:, None] ** 2 + line**2 < 0.6).float().expand(n, 1, size, size)
    given = {
        "source": torch.rand(n, context, size, size) * brain,
        "target": torch.rand(n, 1, size, size) * brain,
        "mask": brain,
        "brain": brain,
        "position": torch.zeros(n, 3, size, size),
        "plane": torch.zeros(n, dtype=torch.long),
    }
    return {name: value.to(device) for name, value in given.items()}


def main() -> None:
    """Time the recipes in alternating rounds, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="compile all networks (torch.compile)")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    fabric = make_fabric(Training(batch_size=arguments.batch))
    fabric.launch()
    device, world = fabric.device, fabric.world_size
    built = {
        "published recipe": published_loop(fabric),
        "m2m, discriminators in every step": own_loop(fabric, 1),
        "m2m, as config.yaml trains it": own_loop(fabric),
    }
    if arguments.compile:
        for loop in built.values():
            for network in (*loop.generator_modules.values(), *loop.discriminators.values()):
                network.compile()
    make_reproducible(0, device)
    torch.use_deterministic_algorithms(False)
    times: dict[str, list[float]] = {name: [] for name in built}
    for i in range(arguments.rounds + 1):
        for name, loop in built.items():
            context = 1 if name.startswith("published") else 3
            batch = batch_of(arguments.batch // world, arguments.size, context, device)
            cycle = loop.objective.every  # one cycle holds one step of the discriminators
            start = time.perf_counter()
            for step in range(cycle):
                loop.update(step, batch)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if i:
                times[name].append(cycle * arguments.batch / (time.perf_counter() - start))
    base = statistics.median(times["published recipe"])
    where = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    lines = [
        f"`python benchmarks/training.py`: slices of {arguments.size} x {arguments.size} pixels, "
        f"batch {arguments.batch}, median of {arguments.rounds} rounds after one. "
        f"PyTorch {torch.__version__}, {where}, {torch.get_num_threads()} threads, {world} process"
        f"{'es' if world > 1 else ''}, {fabric.strategy.precision.precision}"
        f"{', compiled' if arguments.compile else ''}.",
        "",
        "| recipe | parameters of G and D, M | images per second | times the published |",
        "|---|---|---|---|",
    ]
    for name, loop in built.items():
        sizes = [
            sum(p.numel() for network in side.values() for p in network.parameters()) / 1e6
            for side in (loop.generator_modules, loop.discriminators)
        ]
        rate = statistics.median(times[name])
        lines.append(f"| {name} | {sizes[0]:.2f}, {sizes[1]:.2f} | {rate:.2f} | {rate / base:.1f} |")
    if not fabric.is_global_zero:
        return
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
