"""The network whose features images are compared in: trained here, or VGG19 from a file.

The workflow's own encoder learns to take noise off the training people's true maps. So it needs no
licence and no download, and knows nothing of test people.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from m2m.cohort.split import load_split, part_by_participant
from m2m.io.errors import DataError
from m2m.io.files import file_digest, read_json, write_json
from m2m.io.modalities import MODALITIES
from m2m.models.record import save_weights
from m2m.networks.feature_encoder import Autoencoder, SliceEncoder, Vgg19Features
from m2m.objectives import losses
from m2m.options import Encoder, Perceptual
from m2m.options.configured import section_of, split_of
from m2m.options.stage_flags import ConfigFile, Root
from m2m.structural.slices import PLANES
from m2m.train.dataset import SliceBatches, find_subjects
from m2m.train.stepping import make_reproducible, require_finite, schedule


def train_encoder(batches: SliceBatches, options: Encoder, device: str, channels: int) -> nn.Module:
    """Train an autoencoder on noisy slices inside the target mask; give its encoder.

    Parameters
    ----------
    batches : SliceBatches
        Of training people only.
    options : Encoder
    device : str
    channels : int
        Of the target.
    """
    network = Autoencoder(channels, options.widths).to(device)
    optimizer = torch.optim.Adam(network.parameters())
    draw = torch.Generator().manual_seed(options.seed)
    stream = tqdm(batches.steps(0, options.steps, 0), total=options.steps, mininterval=20)
    for step, batch in enumerate(stream):
        target, mask = batch["target"].to(device), batch["mask"].to(device)
        noise = torch.randn(target.shape, generator=draw).to(device)
        loss = losses.masked_l1(network(target * mask + options.noise * noise), target, mask)
        require_finite(step, {"the encoder's loss": loss.item()}, batch["unit"])
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * schedule(step, options.steps, 0.05)
        optimizer.step()
    print(f"encoder: mean absolute error {loss.item():.4f} after {options.steps} steps")
    return network.encoder


def load_encoder(options: Perceptual, channels: int, path: Path | None) -> nn.Module | None:
    """Load the network of a model's section ``perceptual``; None where it has none.

    Parameters
    ----------
    options : Perceptual
    channels : int
        Of the target.
    path : path or None
        The workflow's own encoder.

    Raises
    ------
    DataError
        The weights are missing, cannot be read, or are of another network.
    """
    if options.network == "none":
        return None
    if options.network == "self":
        if path is None:
            raise DataError("perceptual.network is self", remedy="give --encoder of `m2m encoder`")
        record = read_json(path.with_suffix(".json"))
        network = SliceEncoder(len(MODALITIES[record["target"]].channels), record["widths"])
        network.load_state_dict(_read(path))
        return network
    network = Vgg19Features()
    found = _read(options.weights)
    wanted = network.state_dict()
    if missing := [name for name in wanted if name not in found]:
        raise DataError(
            f"has no {missing[0]}: not torchvision's VGG19", file=options.weights,
            remedy="perceptual.weights takes torchvision's vgg19 state dictionary",
        )  # fmt: skip
    network.load_state_dict({name: found[name] for name in wanted})
    return network


def _read(path: Path) -> Mapping[str, Tensor]:
    """Tensors of a file; a pickle may hold tensors only."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise DataError(
            f"weights cannot be read: {error}", file=path,
            remedy="give the file of a state dictionary, .safetensors or .pth",
        ) from error  # fmt: skip


def main(
    root: Root,
    target: Annotated[str, typer.Option(help="Whose slices, e.g. fa.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to. Default: <root>/encoders/<target>.")
    ] = None,
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section encoder.")] = None,
) -> None:
    """Train the encoder in whose features images are compared, on the training part."""
    section = section_of("encoder", config, options, needed=False)
    folder = out or root / "encoders" / target
    files = folder / "encoder.safetensors", folder / "encoder.json"
    fit_encoder(target, root / "slices", *split_of(root), *files, section)


def fit_encoder(
    target: str,
    slices_dir: Path,
    split: Path,
    split_record: Path,
    weights: Path,
    record: Path,
    section: Encoder,
) -> None:
    """Fit the encoder of one target, and write its weights and record."""
    parts = part_by_participant(load_split(split, split_record))
    people = find_subjects(slices_dir, parts, target, target)[0]["train"]
    if not people:
        raise DataError("no training subject has usable slices", file=slices_dir)
    fabric = Fabric(accelerator="auto", devices=1, plugins=[LightningEnvironment()])
    make_reproducible(section.seed, fabric.device)
    batches = SliceBatches(
        people, target, target, context=1, planes=PLANES,
        batch_size=section.batch_size, seed=section.seed,
    )  # fmt: skip
    channels = len(MODALITIES[target].channels)
    network = train_encoder(batches, section, str(fabric.device), channels)
    tensors = {name: np.asarray(t.detach().cpu()) for name, t in network.state_dict().items()}
    save_weights(tensors, weights)
    facts: dict[str, Any] = {
        "target": target, "widths": list(section.widths),
        "options": section.model_dump(mode="json"),
        "train_participants": sorted({person.participant for person in people}),
        "split_hash": read_json(split_record)["hash"], "weights": file_digest(weights),
    }  # fmt: skip
    write_json(record, facts)
