"""The feature encoder of the perceptual loss: trained here, or VGG19 from a file.

The workflow's own encoder is trained to denoise the measured maps of the training participants. It
needs no licence and no download, and uses no data of test participants.
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
    """Train a denoising autoencoder inside the target mask, and return its encoder.

    Parameters
    ----------
    batches : SliceBatches
        Of training participants only.
    options : Encoder
    device : str
    channels : int
        Channels of the target.

    Returns
    -------
    Module
        The encoder.
    """
    network = Autoencoder(channels, options.widths).to(device)
    optimizer = torch.optim.Adam(network.parameters())
    generator = torch.Generator().manual_seed(options.seed)
    stream = tqdm(batches.steps(0, options.steps, 0), total=options.steps, mininterval=20)
    for step, batch in enumerate(stream):
        target, mask = batch["target"].to(device), batch["mask"].to(device)
        noise = torch.randn(target.shape, generator=generator).to(device)
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
    """Load the encoder of a model's section ``perceptual``; None if it has none.

    Parameters
    ----------
    options : Perceptual
    channels : int
        Channels of the target.
    path : path or None
        Weights of the workflow's own encoder.

    Returns
    -------
    Module or None

    Raises
    ------
    DataError
        The weights are missing, cannot be read, or belong to another network.
    """
    if options.network == "none":
        return None
    if options.network == "self":
        if path is None:
            raise DataError("perceptual.network is self", remedy="give --encoder of `m2m encoder`")
        record = read_json(path.with_suffix(".json"))
        encoder = SliceEncoder(len(MODALITIES[record["target"]].channels), record["widths"])
        encoder.load_state_dict(_read(path))
        return encoder
    assert options.weights is not None, "the options are checked: vgg19 has a path"
    network = Vgg19Features()
    tensors = _read(options.weights)
    names = network.state_dict()
    if missing := [name for name in names if name not in tensors]:
        raise DataError(
            f"has no {missing[0]}: not torchvision's VGG19",
            file=options.weights,
            remedy="perceptual.weights takes torchvision's vgg19 state dictionary",
        )
    network.load_state_dict({name: tensors[name] for name in names})
    return network


def _read(path: Path) -> Mapping[str, Tensor]:
    """Read the tensors of a file; a pickle may hold tensors only."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise DataError(
            f"weights cannot be read: {error}",
            file=path,
            remedy="give a state dictionary, .safetensors or .pth",
        ) from error


def main(
    root: Root,
    target: Annotated[str, typer.Option(help="Modality that the encoder is trained on, e.g. fa.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write to. Default: <root>/encoders/<target>.")] = None,
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section encoder.")] = None,
) -> None:
    """Train the feature encoder of the perceptual loss on the training part."""
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
    """Train the encoder of one target, and write its weights and record.

    Parameters
    ----------
    target : str
        Modality.
    slices_dir : Path
        Output of `m2m slices`.
    split, split_record : Path
        Table of the parts, and its record.
    weights, record : Path
        Files to write.
    section : Encoder

    Raises
    ------
    DataError
        There is no training subject.
    """
    parts = part_by_participant(load_split(split, split_record))
    subjects = find_subjects(slices_dir, parts, target, target)[0]["train"]
    if not subjects:
        raise DataError("no training subject has usable slices", file=slices_dir)
    fabric = Fabric(accelerator="auto", devices=1, plugins=[LightningEnvironment()])
    make_reproducible(section.seed, fabric.device)
    batches = SliceBatches(
        subjects, target, target, context=1, planes=PLANES, batch_size=section.batch_size, seed=section.seed
    )
    channels = len(MODALITIES[target].channels)
    network = train_encoder(batches, section, str(fabric.device), channels)
    tensors = {name: np.asarray(t.detach().cpu()) for name, t in network.state_dict().items()}
    save_weights(tensors, weights)
    facts: dict[str, Any] = {
        "target": target,
        "widths": list(section.widths),
        "options": section.model_dump(mode="json"),
        "train_participants": sorted({subject.participant for subject in subjects}),
        "split_hash": read_json(split_record)["hash"],
        "weights": file_digest(weights),
    }
    write_json(record, facts)
