"""Pictures of the page: figures with their captions, and everybody's quality pictures."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from m2m.figures.figure_records import SECTIONS, FigureSpec
from m2m.io.bids import unit_folder, unit_path
from m2m.report.words import Row, printed

# Of a figure in a page, at most, in pixels.
WIDTH = 1800
QUALITY = {
    "grid_fa_mean": ("mean FA", 3), "grid_fa_wm": ("white-matter FA", 3),
    "dti_md_median_mm2_per_s": ("median MD (mm²/s)", 5), "grid_coverage": ("DWI coverage", 3),
    "grid_r_t1_fa": ("r(T1, FA)", 3), "grid_shift_mm": ("shift (mm)", 1),
    "grid_mi_headers": ("MI, headers", 4), "grid_mi_registered": ("MI, registered", 4),
    "grid_kept": ("alignment kept", 0), "grid_tdi_mean": ("mean tract density", 2),
    "tractography_n_streamlines": ("streamlines", 0),
    "tractography_mean_length_mm": ("mean length (mm)", 1), "anat_brain_volume_l": ("brain (l)", 2),
}  # fmt: skip
PICTURES = {
    "picture": "slices in three planes of T1 with the outline of FA, mean b0 with the masks, FA, "
    "and colour FA",
    "tractography-picture": "streamlines of the whole brain, coloured by their direction",
    # Where somebody has made them.
    "field-stills": "still views of a continuous field of tract density, coloured by direction",
    "field-tractogram-picture": "streamlines along the directions of that field",
}


def data_uri(path: Path, width: int, form: str) -> str | None:
    """Encode a picture for the page, at most `width` pixels wide; None where there is none.

    A PNG, for lines and letters, gets 128 colours of its own.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    with Image.open(path) as image:
        picture = image.convert("RGB")
    if picture.width > width:
        height = round(picture.height * width / picture.width)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    if form == "PNG":
        picture = picture.quantize(128)
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=82, optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{text}"


def shown(
    figures: Mapping[str, FigureSpec], folder: Path, prefix: str = ""
) -> dict[str, list[dict[str, str | None]]]:
    """Figures as a page shows them, by its sections.

    Parameters
    ----------
    figures : mapping of str to FigureSpec
    folder : Path
        Of these figures.
    prefix : str
        Of their names in the page: their folder below that of all figures, with a slash.

    Returns
    -------
    dict
        Lists of name, title, caption and picture.
    """
    sections: dict[str, list[dict[str, str | None]]] = {name: [] for name in SECTIONS}
    for name, spec in figures.items():
        sections[spec.section].append(
            {"name": f"{prefix}{name}", "title": spec.title, "caption": spec.caption,
             "picture": data_uri(folder / f"{name}.png", WIDTH, spec.form)}
        )  # fmt: skip
    return sections


def subjects(root: Path, quality: Sequence[Row], limit: int) -> list[dict[str, Any]]:
    """Quality pages: failed and excluded units first, then test, validation, training.

    Parameters
    ----------
    root : Path
    quality : rows of quality.tsv
    limit : int
        Pages at most.
    """
    order = {"failed": 0, "excluded": 1, "incomplete": 5}
    parts = {"test": 2, "validation": 3, "train": 4}

    def rank(row: Row) -> int:
        return order.get(row["state"] or "", parts.get(row["part"] or "", 6))

    pages = []
    for row in sorted(quality, key=rank)[:limit]:
        unit = row["unit"] or ""
        pictures = [
            (words, data_uri(Path(unit_path(root, kind, unit_folder(unit), unit)), 1000, "JPEG"))
            for kind, words in PICTURES.items()
        ]
        numbers = [
            (name, printed(row[key], digits))
            for key, (name, digits) in QUALITY.items()
            if row.get(key) is not None
        ]
        pages.append(
            {
                "unit": unit, "state": row["state"], "part": row["part"] or "no part",
                "reason": row["reason"] or "", "numbers": numbers,
                "pictures": [(words, uri) for words, uri in pictures if uri],
            }
        )  # fmt: skip
    return pages
