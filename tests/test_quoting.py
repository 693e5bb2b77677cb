"""What findings and files disclose: no content of a file outside of the dataset; permissions follow the umask."""

import os
import stat

import numpy as np
import pytest
from cohort_tree import dataset, index_and_validate
from line_model import write_line

from m2m.cohort.checks import check_scan
from m2m.cohort.gradients import check_gradients
from m2m.cohort.participants import read_participants
from m2m.diffusion.gradient_tables import read_gradients
from m2m.io.errors import DataError
from m2m.io.files import read_json, read_text, whole, write_json
from m2m.io.quoting import MOST_OF_VALUE, NOT_SHOWN, printable
from m2m.io.volume import load

SECRET = "s3cret:x:0:0"


@pytest.fixture
def secret(tmp_path):
    """A file outside of the dataset, and the folder of a participant's DWI inside one."""
    (tmp_path / "passwd").write_text(f"{SECRET}:root:/root:/bin/bash\n{SECRET}\n")
    folder = tmp_path / "ds" / "sub-1" / "dwi"
    folder.mkdir(parents=True)
    return tmp_path / "passwd", folder


def texts(errors):
    return " ".join(f"{error.problem} {error.value} {error.remedy}" for error in errors)


def test_a_finding_about_gradients_does_not_quote_the_file_that_a_link_leads_to(secret):
    target, folder = secret
    paths = folder / "sub-1_dwi.bval", folder / "sub-1_dwi.bvec"
    for path in paths:
        path.symlink_to(target)
    _, problems = check_gradients(*paths, "x.nii", None)
    with pytest.raises(DataError) as fitted:
        read_gradients(*paths)
    assert len(problems) == 2 and "cannot be read" in problems[0].problem
    assert "s3cret" not in texts([*problems, fitted.value])
    # Nor does one about a file of the dataset: its place in the file is enough.
    paths[0].unlink()
    paths[0].write_text(f"0 1000 {SECRET}")
    _, problems = check_gradients(*paths, "x.nii", None)
    assert "row 1 holds something other than numbers" in problems[0].problem and "s3cret" not in texts(problems)


@pytest.mark.parametrize("name", ["sub-1_dwi.nii.gz", "sub-1_dwi.nii"])
def test_a_finding_about_an_image_does_not_quote_the_file_that_a_link_leads_to(secret, name):
    target, folder = secret
    (folder / name).symlink_to(target)
    problems = check_scan("dwi", folder / name).problems
    with pytest.raises(DataError) as loaded:
        load(folder / name)
    assert problems and "s3" not in texts([*problems, loaded.value])
    assert NOT_SHOWN in texts([loaded.value])


def test_a_finding_about_participants_quotes_a_heading_of_the_dataset_only(secret):
    target, folder = secret
    table = folder.parent.parent / "participants.tsv"
    table.symlink_to(target)
    with pytest.raises(DataError, match="no column participant_id") as found:
        read_participants(table)
    assert "s3cret" not in str(found.value) and NOT_SHOWN in found.value.value
    table.unlink()
    table.write_text("participant\nsub-1\n")
    with pytest.raises(DataError, match="no column participant_id") as found:
        read_participants(table)
    assert found.value.value == "['participant']"


def test_links_inside_a_dataset_are_quoted_as_git_annex_stores_files(tmp_path):
    (tmp_path / ".git" / "annex").mkdir(parents=True)
    (tmp_path / ".git" / "annex" / "key").write_text("participant\nsub-1\n")
    (tmp_path / "participants.tsv").symlink_to(tmp_path / ".git" / "annex" / "key")
    with pytest.raises(DataError) as found:
        read_participants(tmp_path / "participants.tsv")
    assert found.value.value == "['participant']"


def test_a_message_quotes_some_printable_characters_in_one_line():
    error = DataError("bad\nfile", file="a\nb", value="x" * 10_000 + "\n")
    assert error.problem == "bad file" and error.file == "a\\nb"
    assert len(error.value) < MOST_OF_VALUE + 50 and "10001 characters" in error.value
    assert printable("a\x1b[31m\udc80é\u202e") == "a\\x1b[31m\\udc80é\\u202e"
    str(error).encode("utf-8")


# Files that are no table of numbers: read with a limit, and never for ever.
UNREADABLE = {
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "a circle of links": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_table_that_is_no_text_file_is_a_finding(tmp_path, kind):
    path = tmp_path / "participants.tsv"
    UNREADABLE[kind](path)
    with pytest.raises((OSError, ValueError)):
        read_text(path)
    with pytest.raises((OSError, ValueError)):
        read_json(path)
    with pytest.raises(DataError, match="table cannot be read"):
        read_participants(path)
    other = tmp_path / "x.bvec"
    UNREADABLE[kind](other)
    _, problems = check_gradients(path, other, "x.nii", None)
    assert len(problems) == 2


def test_a_text_larger_than_its_limit_is_not_read(tmp_path):
    path = tmp_path / "large.json"
    path.write_text("[" * 100)
    with pytest.raises(ValueError, match="larger than 99 bytes"):
        read_text(path, 99)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ('{"a": NaN}', "holds NaN"),
        ('{"a": -Infinity}', "holds -Infinity"),
        ("[1]", "not a JSON object"),
        ("1" * 5000, "digits"),
    ],
)
def test_json_of_strangers_is_refused_in_one_line(tmp_path, text, problem):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=problem):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("description", ["{", '{"Name": {"a": 1}}', "\xff", '{"GeneratedBy": 5, "DatasetLinks": []}'])
def test_a_damaged_description_does_not_stop_the_cohort(tmp_path, description):
    root = dataset(tmp_path / "ds", "sub-1")
    (root / "dataset_description.json").write_text(description, encoding="latin-1")
    units, _ = index_and_validate(root, tmp_path)
    assert units["sub-1"]["state"] == "paired"


@pytest.mark.parametrize("description", ["[" * 100_000, "[1]", '{"Name": NaN}', "1" * 5000])
def test_a_description_that_pybids_cannot_read_is_refused_by_name(tmp_path, description):
    root = dataset(tmp_path / "ds", "sub-1")
    (root / "dataset_description.json").write_text(description)
    with pytest.raises(DataError, match="description of the dataset") as found:
        index_and_validate(root, tmp_path)
    assert found.value.file.endswith("dataset_description.json") and found.value.remedy


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
def test_weights_and_every_other_file_have_the_permissions_that_the_umask_gives(tmp_path, umask):
    before = os.umask(umask)
    try:
        weights = write_line(tmp_path)
        write_json(tmp_path / "other.json", {})
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert weights.name in modes and set(modes.values()) == {0o666 & ~umask}, modes


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / f".{os.getpid()}.out.npy").symlink_to(tmp_path / "mine")
    with whole(tmp_path / "out.npy") as temporary, temporary.open("wb") as stream:
        np.save(stream, np.arange(3))
    assert (tmp_path / "mine").read_text() == "mine" and not (tmp_path / "out.npy").is_symlink()
    assert np.load(tmp_path / "out.npy").tolist() == [0, 1, 2]
