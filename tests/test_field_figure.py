"""The figure of rendered fields: the order of the views, and the reason for a missing one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2m.figures.field_views import draw, draw_fields, field_rows, view_name
from m2m.io.bids import unit_path
from m2m.io.files import write_json
from m2m.io.tables import read_table
from m2m.options import Render

SECTION = Render(stills=((270.0, 0.0), (0.0, 90.0)))
UNIT = "sub-01_ses-2"
FOLDER = "sub-01/ses-2"
COLOURS = [(200, 0, 0), (0, 0, 200)]


@pytest.fixture
def roots(tmp_path):
    """One measured field, of two views of one colour each; a synthetic one that failed."""
    found = [tmp_path / "ds", tmp_path / "ds/synthetic/t1-dti/macro2micro"]
    for root, status in zip(found, ("ok", "failed"), strict=True):
        path = Path(unit_path(root, "field-stills", FOLDER, UNIT))
        path.parent.mkdir(parents=True)
        pixels = np.repeat(np.array([COLOURS], np.uint8), 8, axis=1).repeat(8, axis=0)
        Image.fromarray(pixels).save(path)
        record = {"status": status, "finding": {"problem": "no streamline is left"}}
        write_json(unit_path(root, "render-status", FOLDER, UNIT), record)
    return found


def test_a_view_is_named_by_the_direction_of_its_camera():
    names = [view_name(*view) for view in Render().stills]
    assert names == ["from the left", "from the front", "from above", "from below"]
    assert view_name(45, 15) == "from 45°, 15° up" and view_name(360, 0) == "from behind"
    assert view_name(0, -20) == "from behind, 20° down"


def test_each_view_has_its_name_and_a_failure_its_reason(roots):
    rows = field_rows(roots, [UNIT], SECTION)
    assert [row["of"] for row in rows] == ["measured", "measured", "t1-dti, macro2micro"]
    measured, synthetic = np.split(np.array(draw_fields(rows, 2).axes), 2)
    for axes, colour, name in zip(measured, COLOURS, ("from the left", "from above"), strict=True):
        (shown,) = axes.images
        assert (shown.get_array() == colour).all() and shown.get_array().shape == (8, 8, 3)
        assert axes.get_title("center") == name
    assert not any(axes.images for axes in synthetic)
    assert "no field: no streamline is left" in [text.get_text() for text in synthetic[0].texts]


def test_the_command_writes_the_figure_with_its_source_also_without_participants(roots, tmp_path):
    draw(roots, tmp_path / "out", True, [UNIT], SECTION)
    table = read_table(tmp_path / "out/fields.tsv")
    assert [row["view"] for row in table] == ["from the left", "from above", None]
    assert table[2]["problem"] == "no streamline is left"
    draw(roots, tmp_path / "none", False, [], Render())
    for folder in ("out", "none"):
        assert all((tmp_path / folder / f"fields.{end}").stat().st_size for end in ("pdf", "png"))
