"""Pictures of the page: figures with their captions, and everybody's quality pictures."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from m2m.bids import unit_folder, unit_path
from m2m.modalities import REGISTERED, of_nature, targets
from m2m.report.words import Row, printed

QUALITY = {
    "grid_fa_mean": ("mean FA", 3), "grid_fa_wm": ("white-matter FA", 3),
    "dti_md_median_mm2_per_s": ("median MD (mm²/s)", 5), "grid_coverage": ("DWI coverage", 3),
    "grid_r_t1_fa": ("r(T1, FA)", 3), "grid_shift_mm": ("shift (mm)", 1),
    "grid_mi_headers": ("MI, headers", 4), "grid_mi_registered": ("MI, registered", 4),
    "grid_kept": ("alignment kept", 0), "grid_tdi_mean": ("mean tract density", 2),
    "tractography_n_streamlines": ("streamlines", 0),
    "tractography_mean_length_mm": ("mean length (mm)", 1), "anat_brain_volume_l": ("brain (l)", 2),
}  # fmt: skip
FLOW = (
    "Who took part",
    "Flow of the cohort from the dataset to the test subjects, who left it and why; where they are "
    "known, age and sex of each part of the split.",
)
RATIO = (
    "Quality against resolution",
    "Means of the test subjects with 95 % bootstrap intervals, by how coarse the map beside the T1 "
    "is; at the end models that see the T1 alone.",
)
PICTURES = {
    "picture": "slices in three planes of T1 with the outline of FA, mean b0 with the masks, FA, "
    "and colour FA",
    "tractography-picture": "streamlines of the whole brain, coloured by their direction",
    # Where somebody has made them.
    "field-stills": "still views of a continuous field of tract density, coloured by direction",
    "field-tractogram-picture": "streamlines along the directions of that field",
}
# Of a task, in the page's order: title, caption, format in the page, targets it is drawn for.
EVERY = tuple(targets())
FIGURES = {
    "overview": (
        "The way from source to map",
        "Drawn from this run: a test person's source, the slices that are cut from it, the first "
        "model, and its map beside the true one.",
        "JPEG", EVERY,
    ),
    "panel": (
        "The maps",
        "Source, truth, and each model's map with its error, for the test subjects with the best, "
        "the median and the worst SSIM of the first model: in three planes, with the standard "
        "deviation that the first model predicts, or, of more than three models, in axial slices.",
        "JPEG", EVERY,
    ),
    "projections": (
        "The whole map at a glance",
        "Projections of the first model's map beside the true one, for the same subjects: the "
        "maximum along each ray; of directions, the colour where FA is largest; of streamlines, "
        "where they were drawn, the mean direction of those that cross, brighter where there are "
        "more.",
        "JPEG", (*of_nature("density"), *of_nature("tensor")),
    ),
    "metrics": (
        "Every test subject under every model",
        "Each dot is one test subject, grey lines join the same subject; black: mean and 95 % "
        "bootstrap interval over subjects. Coherence of detail, r beyond the mean and histograms "
        "(their distance) are explained above.",
        "PNG", EVERY,
    ),
    "forest": (
        "The first model against each other one",
        "Paired differences on the same test subjects with 95 % bootstrap intervals, better to the "
        "right; a dot is filled where its interval leaves 0 out, one far beyond all others is a "
        "number at the edge. Of an ablation: what each change of the full model costs.",
        "PNG", EVERY,
    ),
    "profile": (
        "From the centre of the brain to its edge",
        "Quality of each axial slice inside the brain by its height above the brain's centre; "
        "bands are 95 % bootstrap intervals.",
        "PNG", EVERY,
    ),
    "rois": (
        "Regions of interest",
        "Mean of each region, synthetic against true, for every test subject; and, per region, "
        "the correlation of true and synthetic means across subjects.",
        "PNG", EVERY,
    ),
    "agreement": (
        "How far a region's mean may be off",
        "Bland and Altman's plot: synthetic minus true mean of each region against the mean of the "
        "two, for every test subject. Black: bias; dashed: the limits between which 95 % of "
        "differences lie, in brackets, pooled over subjects and regions. A fall to the right says "
        "that high values are made too low, or low ones too high.",
        "PNG", EVERY,
    ),
    "spectrum": (
        "Whether it is sharp because it is true",
        "Left: how much structure of each size the maps hold, coarse to fine (1/mm: 0.1 is detail "
        "of 5 mm and its gap). Middle: the same, of what the true map holds; below 1 a map is "
        "blurred. Right: how much of it agrees with the truth, 1 being all. A map with power near "
        "1 and low coherence is sharp, but invented. Bands are 95 % bootstrap intervals.",
        "PNG", EVERY,
    ),
    "speed": (
        "Quality against time",
        "Whole slices as others report them, against the median seconds in which this run's jobs "
        "made a volume, the program's start included; 95 % bootstrap intervals. Open marks: "
        "published figures of the same task, of other people and on other grids, which compare "
        "with nothing here but each other; none states a time, so they stand at the edge.",
        "PNG", (REGISTERED,),
    ),
    "uncertainty": (
        "Whether it knows where it is wrong",
        "Left: share of voxels whose error lies inside intervals of a nominal probability; below "
        "the diagonal a model is too sure of itself. Right: mean error of the voxels that are kept "
        "when the least certain are left out; the steeper, the better, and the oracle leaves out "
        "the largest errors themselves. Below: error and predicted standard deviation of the "
        "first model, on one scale, for the median test subject.",
        "JPEG", EVERY,
    ),
    "bundles": (
        "Streamlines by bundle",
        "Length and volume of each bundle, synthetic against true, for every test subject; and the "
        "correlation of true and synthetic streamline counts over the voxels that either visits.",
        "PNG", of_nature("tensor"),
    ),
    "training": (
        "Training",
        "Terms of the loss, the validation metric and the gradients of every network, by step.",
        "PNG", EVERY,
    ),
}  # fmt: skip


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


def flow_figure(folder: Path) -> dict[str, str | None]:
    """The cohort's flow with its title and caption."""
    title, caption = FLOW
    picture = data_uri(folder / "flow.png", 1800, "PNG")
    return {"name": "flow", "title": title, "caption": caption, "picture": picture}


def ratio_figure(folder: Path) -> dict[str, str | None]:
    """Quality against the ratio of resolutions, with its title and caption."""
    title, caption = RATIO
    picture = data_uri(folder / "ratio.png", 1800, "PNG")
    return {"name": "ratio", "title": title, "caption": caption, "picture": picture}


def task_figures(folder: Path, task: str, target: str) -> dict[str, dict[str, str | None]]:
    """Figures of one task with their titles and captions, by name."""
    return {
        name: {
            "name": f"{task}/{name}", "title": title, "caption": caption,
            "picture": data_uri(folder / task / f"{name}.png", 1800, form),
        }
        for name, (title, caption, form, drawn_for) in FIGURES.items()
        if target in drawn_for
    }  # fmt: skip


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
