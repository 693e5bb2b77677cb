"""Images of the page: figures with their captions, and the QC figures of each unit."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from m2m.figures.figure_records import SECTIONS, FigureSpec
from m2m.io.bids import unit_folder, unit_path
from m2m.report.summary_text import Row, printed

# Largest width of a figure in the page, in pixels.
WIDTH = 1800
QUALITY = {
    "grid_fa_mean": ("mean FA", 3),
    "grid_fa_wm": ("white-matter FA", 3),
    "dti_md_median_mm2_per_s": ("median MD (mm²/s)", 5),
    "grid_coverage": ("DWI coverage", 3),
    "grid_r_t1_fa": ("r(T1, FA)", 3),
    "grid_shift_mm": ("shift (mm)", 1),
    "grid_mi_headers": ("MI, headers", 4),
    "grid_mi_registered": ("MI, registered", 4),
    "grid_kept": ("alignment kept", 0),
    "grid_tdi_mean": ("mean tract density", 2),
    "tractography_n_streamlines": ("streamlines", 0),
    "tractography_mean_length_mm": ("mean length (mm)", 1),
    "anat_brain_volume_l": ("brain (l)", 2),
}
# Kinds of QC figures, with their descriptions.
QC_FIGURES = {
    "qc": "slices in three planes of T1 with the outline of FA, mean b0 with the masks, FA, and colour-coded FA",
    "tractography-figure": "whole-brain streamlines, coloured by direction",
    # Only where a field was rendered.
    "field-stills": "views of a continuous field of tract density, coloured by direction",
    "field-tractogram-figure": "streamlines along the directions of this field",
}


def data_uri(path: Path, width: int) -> str | None:
    """Encode an image for the page, as WebP: half the size of PNG and JPEG, and every browser shows it.

    Parameters
    ----------
    path : Path
        Image file.
    width : int
        Largest width in pixels; wider images are downsampled.

    Returns
    -------
    str or None
        Data URI; None where the file is missing or empty.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if image.width > width:
        height = round(image.height * width / image.width)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82)
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/webp;base64,{text}"


def shown(figures: Mapping[str, FigureSpec], folder: Path, prefix: str = "") -> dict[str, list[dict[str, str | None]]]:
    """Figures of a page, by its sections.

    Parameters
    ----------
    figures : mapping of str to FigureSpec
    folder : Path
        Folder of these figures.
    prefix : str
        Prefix of their names in the page: their folder below that of all figures, with a slash.

    Returns
    -------
    dict
        Lists of dicts: name, title, caption and image (data URI).
    """
    sections: dict[str, list[dict[str, str | None]]] = {name: [] for name in SECTIONS}
    for name, spec in figures.items():
        sections[spec.section].append(
            {
                "name": f"{prefix}{name}",
                "title": spec.title,
                "caption": spec.caption,
                "image": data_uri(folder / f"{name}.png", WIDTH),
            }
        )
    return sections


def subjects(root: Path, quality: Sequence[Row], limit: int) -> list[dict[str, Any]]:
    """Quality control of units: failed and excluded units first, then test, validation, training.

    Parameters
    ----------
    root : Path
    quality : rows of quality.tsv
    limit : int
        Largest number of units.

    Returns
    -------
    list of dict
        unit, state, part, reason, numbers (name and text) and figures (description and data URI).
    """
    order = {"failed": 0, "excluded": 1, "incomplete": 5}
    parts = {"test": 2, "validation": 3, "train": 4}

    def rank(row: Row) -> int:
        return order.get(row["state"] or "", parts.get(row["part"] or "", 6))

    pages = []
    for row in sorted(quality, key=rank)[:limit]:
        unit = row["unit"] or ""
        images = [
            (description, data_uri(Path(unit_path(root, kind, unit_folder(unit), unit)), 1000))
            for kind, description in QC_FIGURES.items()
        ]
        numbers = [
            (name, printed(row[key], digits)) for key, (name, digits) in QUALITY.items() if row.get(key) is not None
        ]
        pages.append(
            {
                "unit": unit,
                "state": row["state"],
                "part": row["part"] or "no part",
                "reason": row["reason"] or "",
                "numbers": numbers,
                "figures": [(description, uri) for description, uri in images if uri],
            }
        )
    return pages
