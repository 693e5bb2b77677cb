"""The stage `render`: a turntable animation and still views of a field, coloured by direction."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, cast

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
from m2m.models.torch_engine import Device, choose_device
from m2m.networks.slice_inputs import TemplateMap
from m2m.options import Render
from m2m.options.configured import section_of
from m2m.options.stage_flags import ConfigFile, MapsOf, Root, Session, Subject

Medium = Callable[[Tensor], tuple[Tensor, Tensor]]
FRAME_MS = 80
# Channels with the squares of the direction's components; channel 0 is the density.
SQUARES = (1, 4, 6)


def medium_of(network: FieldNetwork, options: Render, device: str = "cpu") -> Medium:
    """Absorption and emission of a field of density, coloured by its directions if it has them.

    The field is sampled once on a grid with the spacing of the steps along the rays, since
    neighbouring rays and views need the same points.

    Parameters
    ----------
    network : FieldNetwork
    options : Render
    device : str

    Returns
    -------
    callable
        From points (P, 3) in world mm to extinction per mm (P,) and colour (P, 3).

    Raises
    ------
    DataError
        Nothing of the field is visible: the images would be black.
    """
    low, high = extent(network)
    affine = np.diag([*[options.step_mm] * 3, 1.0])
    affine[:3, 3] = low
    x, y, z = (int(n) + 1 for n in (high - low) / options.step_mm)
    shape = (x, y, z)
    values = torch.from_numpy(on_grid(network, affine, shape).data)  # (X, Y, Z, C)
    extinction = options.opacity_per_mm * (values[..., 0] - options.threshold).clamp(min=0)
    if not extinction.any():
        raise DataError(
            f"no density above render.threshold, {options.threshold:g}: nothing would be visible",
            value=f"{float(values[..., 0].max()):.3g} at most",
            remedy="set a lower threshold, or more `field.steps`",
        )
    colour = torch.ones(*shape, 3)
    if values.shape[-1] > 1:
        colour = values[..., SQUARES].clamp(min=0).sqrt()
        colour = colour / colour.amax(-1, keepdim=True).clamp(min=1e-6)
    sampled = torch.cat([extinction[..., None], colour], dim=-1).movedim(-1, 0)
    grid = TemplateMap(sampled, torch.tensor(np.linalg.inv(affine), dtype=torch.float32)).to(device)

    def medium(points_mm: Tensor) -> tuple[Tensor, Tensor]:
        values = grid(points_mm.T[None, :, :, None])[0, :, :, 0].T  # (P, 4)
        return values[:, 0], values[:, 1:]

    return medium


def view_image(medium: Medium, network: FieldNetwork, view: tuple[float, float], options: Render) -> Image.Image:
    """Render one view of the box of a field.

    Parameters
    ----------
    medium : callable
        Of `medium_of`.
    network : FieldNetwork
    view : (float, float)
        Azimuth and elevation of the camera, degrees.
    options : Render

    Returns
    -------
    Image
    """
    low, high = extent(network)
    across = float(np.linalg.norm(high - low))
    camera = Camera(*view, width_mm=options.width_mm, pixels=options.pixels)
    device = network.low_mm.device
    starts, into = (x.to(device) for x in camera.rays((low + high) / 2, across))
    with torch.inference_mode():
        colour = integrate(medium, starts, into, across, options.step_mm).colour.cpu().numpy()
    pixels = colour.reshape(options.pixels, options.pixels, 3).clip(0, 1) ** options.gamma
    return Image.fromarray((255 * pixels).astype(np.uint8))


def side_by_side(images: list[Image.Image]) -> Image.Image:
    """Put images of one size in a row."""
    width, height = images[0].size
    row = Image.new("RGB", (width * len(images), height))
    for number, image in enumerate(images):
        row.paste(image, (number * width, 0))
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
    """Render a field as a turntable animation and still views, coloured by direction."""
    unit = unit_of(subject, session)
    at = files_of(unit, maps or root)
    section = section_of("render", config, options, needed=False)
    render_unit(
        at("field"),
        at("field-record"),
        at("field-turntable"),
        at("field-stills"),
        section,
        [at("field-status")],
        unit,
        at("render-status"),
        device,
    )


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
    """Render the field of one unit.

    Parameters
    ----------
    weights, record : Path
        Of the field.
    turntable, stills : Path
        GIF animation and PNG to write.
    section : Render
    require : sequence of Path
        Statuses of earlier stages.
    unit : str
        Name in the status.
    status : Path or None
        To write; errors in the data are then recorded in it.
    device : {"auto", "cpu", "cuda", "mps"}
    """
    outputs = [turntable, stills]
    context: AbstractContextManager[dict[str, Any]] = (
        recorded("render", unit, status, outputs) if status else nullcontext({})
    )
    with context as numbers:
        require_ok(*require)
        chosen = choose_device(cast(Device, device))  # refuses any other
        network = read_field(weights, record)[0].to(chosen)
        medium = medium_of(network, section, chosen)
        views = [view_image(medium, network, view, section) for view in section.stills]
        with whole(stills) as temporary:
            side_by_side(views).save(temporary)
        frames = [
            view_image(medium, network, (360 * k / section.frames, section.elevation_deg), section)
            for k in trange(section.frames, desc="render")
        ]
        with whole(turntable) as temporary:
            frames[0].save(temporary, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0)
        numbers |= {"n_frames": len(frames)}
