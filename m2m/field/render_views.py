"""The stage `render`: a turntable and still views of a field, coloured by direction."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor
from tqdm import trange

from m2m.field.fit_field import read_field
from m2m.field.network import FieldNetwork
from m2m.field.render import Camera, integrate
from m2m.field.sample import extent, on_grid
from m2m.io.bids import files_of, unit_of
from m2m.io.errors import DataError
from m2m.io.files import whole
from m2m.io.unit_status import recorded, require_ok
from m2m.models.inference import choose_device
from m2m.networks.slice_inputs import TemplateMap
from m2m.options import Render
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile, MapsOf, Root, Session, Subject

Medium = Callable[[Tensor], tuple[Tensor, Tensor]]
FRAME_MS = 80
# Where the squares of a direction's components are among the channels: after the density.
SQUARES = (1, 4, 6)


def medium_of(network: FieldNetwork, options: Render, device: str = "cpu") -> Medium:
    """What a field of density, and of directions if it has them, absorbs and emits.

    The field is sampled once on a grid as fine as the steps along the rays, since neighbouring
    rays and pictures ask for the same places.

    Raises
    ------
    DataError
        Nothing of the field can be seen: the pictures would be black.
    """
    low, high = extent(network)
    affine = np.diag([*[options.step_mm] * 3, 1.0])
    affine[:3, 3] = low
    shape = tuple(int(n) + 1 for n in (high - low) / options.step_mm)
    values = torch.from_numpy(on_grid(network, affine, shape).data)  # (X, Y, Z, C)
    extinction = options.opacity_per_mm * (values[..., 0] - options.threshold).clamp(min=0)
    if not extinction.any():
        raise DataError(
            f"no density above render.threshold, {options.threshold:g}: nothing would be seen",
            value=f"{float(values[..., 0].max()):.3g} at most",
            remedy="set it lower, or give the field more `field.steps`",
        )
    colour = torch.ones(*shape, 3)
    if values.shape[-1] > 1:
        colour = values[..., SQUARES].clamp(min=0).sqrt()
        colour = colour / colour.amax(-1, keepdim=True).clamp(min=1e-6)
    baked = torch.cat([extinction[..., None], colour], dim=-1).movedim(-1, 0)
    grid = TemplateMap(baked, torch.tensor(np.linalg.inv(affine), dtype=torch.float32)).to(device)

    def medium(points_mm: Tensor) -> tuple[Tensor, Tensor]:
        found = grid(points_mm.T[None, :, :, None])[0, :, :, 0].T  # (P, 4)
        return found[:, 0], found[:, 1:]

    return medium


def picture(
    medium: Medium, network: FieldNetwork, view: tuple[float, float], options: Render
) -> Image.Image:
    """Take one picture of all of a field's box from an azimuth and elevation in degrees."""
    low, high = extent(network)
    across = float(np.linalg.norm(high - low))
    camera = Camera(*view, width_mm=options.width_mm, pixels=options.pixels)
    device = network.low_mm.device
    starts, into = (x.to(device) for x in camera.rays((low + high) / 2, across))
    with torch.inference_mode():
        colour = integrate(medium, starts, into, across, options.step_mm).colour.cpu().numpy()
    pixels = colour.reshape(options.pixels, options.pixels, 3).clip(0, 1) ** options.gamma
    return Image.fromarray((255 * pixels).astype(np.uint8))


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Put pictures of one size in a row."""
    width, height = pictures[0].size
    row = Image.new("RGB", (width * len(pictures), height))
    for number, one in enumerate(pictures):
        row.paste(one, (number * width, 0))
    return row


def main(
    root: Root,
    subject: Subject,
    session: Session = None,
    maps: MapsOf = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    config: ConfigFile = None,
    options: Annotated[str | None, typer.Option(help="JSON of the section `render`.")] = None,
) -> None:
    """Render a field: a turntable and still views, coloured by direction."""
    unit = unit_of(subject, session)
    at = files_of(unit, maps or root)
    files = (at(kind) for kind in ("field", "field-record", "field-turntable", "field-stills"))
    section = section_of("render", config, options, needed=False)
    render_unit(*files, section, [at("field-status")], unit, at("render-status"), device)


def render_unit(
    weights: Path,
    record: Path,
    turntable: Path,
    stills: Path,
    section: Render,
    require: Sequence[Path] = (),
    unit: str = "",
    status: Path | None = None,
    device: str = "auto",
) -> None:
    """Render one unit's field."""
    outputs = [turntable, stills]
    with recorded("render", unit, status, outputs) if status else nullcontext({}) as numbers:
        require_ok(*require)
        chosen = choose_device(device)
        network = read_field(weights, record)[0].to(chosen)
        medium = medium_of(network, section, chosen)
        views = [picture(medium, network, view, section) for view in section.stills]
        with whole(stills) as temporary:
            side_by_side(views).save(temporary)
        turns = [
            picture(medium, network, (360 * k / section.frames, section.elevation_deg), section)
            for k in trange(section.frames, desc="render")
        ]
        with whole(turntable) as temporary:
            turns[0].save(
                temporary, save_all=True, append_images=turns[1:], duration=FRAME_MS, loop=0
            )
        numbers |= {"n_frames": len(turns)}
