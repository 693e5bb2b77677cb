"""A head that lies otherwise than its header says is found by registrations from other orientations."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from m2m.io.errors import DataError
from m2m.io.volume import Volume, to_ras
from m2m.structural.other_orientations import GIVEN, Rotated, best_rotated, orientation_of, require_upright, rotations
from m2m.structural.template import load_template

MM = 8.0
TURN = "rotated by 90 degrees about +x"


def test_the_24_turns_of_a_cube_have_names_of_their_own():
    assert len(rotations()) == 24 and next(iter(rotations())) == GIVEN
    x = rotations()[TURN][:3, :3]
    np.testing.assert_allclose(x, Rotation.from_euler("x", 90, degrees=True).as_matrix(), atol=1e-9)


@pytest.mark.parametrize("name", [GIVEN, TURN])
def test_the_orientation_of_a_head_is_named_and_refused(name):
    head, brain = load_template("t1", MM), load_template("brain", MM)
    # The voxels lie otherwise than the affine says.
    wrong = to_ras(Volume(head.data, np.linalg.inv(rotations()[name]) @ head.affine))
    chosen = {key: rotations()[key] for key in (TURN, "rotated by 180 degrees about +z")}
    starts = [np.linalg.inv(turn) for turn in chosen.values()]
    found = best_rotated(head, wrong, brain.data > 0, starts, np.eye(4), "rigid")
    if name == GIVEN:
        assert found.ratio < 0.6
        require_upright(found, 1.0, "anat.max_rotated_mi")
        return
    assert found.name == name and found.ratio > 1.5
    with pytest.raises(DataError, match="does not lie as the header says") as error:
        require_upright(found, 1.0, "anat.max_rotated_mi")
    assert "limit 1 (anat.max_rotated_mi)" in error.value.value and name in error.value.problem


def tilted(degrees, axis="x"):
    """Transform that rotates by some degrees about an axis."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    return matrix


def test_an_orientation_is_the_nearest_turn_whatever_the_tilt_and_the_size():
    for name, turn in rotations().items():
        for tilt in (tilted(30), tilted(-40, "z"), tilted(20, "y") @ tilted(20)):
            assert orientation_of(np.linalg.inv(turn) @ tilt @ np.diag([0.7, 0.8, 0.75, 1])) == name


def test_a_registration_that_comes_back_to_the_given_orientation_is_no_other_one():
    """It did in a real T1, which was refused but for two thousandths of the mutual information."""
    head, brain = load_template("t1", MM), load_template("brain", MM)
    found = best_rotated(head, head, brain.data > 0, [tilted(47), tilted(40), tilted(-48, "z")], np.eye(4), "rigid")
    assert found.ratio < 0.8


def test_a_registration_that_ends_upright_in_spite_of_a_wrong_header_is_refused_too():
    """From the wrong header of a real T1 the search ended upright: nothing fits better, yet the header is wrong."""
    head, brain = load_template("t1", MM), load_template("brain", MM)
    right = np.linalg.inv(rotations()[TURN])
    wrong = to_ras(Volume(head.data, right @ head.affine))
    found = best_rotated(head, wrong, brain.data > 0, [], right, "rigid")
    assert found.name == TURN and 1.5 < found.ratio < 100
    with pytest.raises(DataError, match="does not lie as the header says"):
        require_upright(found, 1.0, "anat.max_rotated_mi")


def test_every_start_of_an_orientation_is_tried():
    """From a start that is too small the right orientation ends in a local optimum."""
    head, brain = load_template("t1", MM), load_template("brain", MM)
    right = np.linalg.inv(rotations()[TURN])
    wrong, small = to_ras(Volume(head.data, right @ head.affine)), right @ np.diag([0.3, 0.3, 0.3, 1])
    ratios = [
        best_rotated(head, wrong, brain.data > 0, starts, np.eye(4), "affine").ratio
        for starts in ([small], [small, right], [right, small])
    ]
    assert ratios[1] == pytest.approx(ratios[2]) and ratios[1] > 1.5 * ratios[0]


def test_the_ratio_is_of_the_other_orientation_to_the_given_one():
    assert Rotated("", 0.6, 0.3).ratio == pytest.approx(2)
