"""Checkpoints: intact or not loaded, plain values only."""

from pathlib import Path

import pytest
import torch

from m2m.io.errors import DataError
from m2m.train.checkpoint import Checkpoints


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path, {})
    checkpoints.save(1, {"x": Path()})
    with pytest.raises(DataError, match=r"plain values only \(found UnpicklingError\).*step-00000001"):
        checkpoints.load()


def flipped(content, bit):
    """Bytes with one bit flipped."""
    byte = content[bit // 8] ^ 1 << bit % 8
    return content[: bit // 8] + bytes([byte]) + content[bit // 8 + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "shorter than the checksum": lambda content: content[:20],
    "half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "zeros": lambda content: bytes(len(content)),
}
# PyTorch loads a file without an error if some of these bits are flipped.
DAMAGES |= {
    f"bit {part} of 40": lambda content, part=part: flipped(content, part * (8 * len(content) - 1) // 40)
    for part in range(41)
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, capsys, damage):
    checkpoints = Checkpoints(tmp_path, {})
    states = [{"weights": torch.full((50,), float(step))} for step in (1, 2)]
    first, newest = (checkpoints.save(step, states[step - 1]) for step in (1, 2))
    newest.write_bytes(damage(newest.read_bytes()))
    state = checkpoints.load()
    assert state["step"] == 1 and torch.equal(state["weights"], states[0]["weights"])
    message = capsys.readouterr().err
    assert f"checkpoint {newest} is damaged" in message and "differ from its checksum" in message
    # The next checkpoint is neither hidden nor replaced by the damaged one.
    assert newest.with_suffix(".damaged").exists() and not newest.exists()
    checkpoints.save(2, states[1])
    assert checkpoints.load()["step"] == 2 and capsys.readouterr().err == ""
    assert first.exists()


def test_if_every_checkpoint_is_damaged_the_run_starts_again(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path, {})
    for step in (10, 20):
        checkpoints.save(step, {}).write_bytes(b"")
    assert checkpoints.load() is None
    message = capsys.readouterr().err
    assert "step-00000010.ckpt" in message and "step-00000020.ckpt" in message
    assert checkpoints.save(1, {}).exists()


def test_a_checkpoint_of_another_layout_is_set_aside_and_the_run_starts_again(tmp_path, capsys, monkeypatch):
    checkpoints = Checkpoints(tmp_path, {})
    with monkeypatch.context() as patch:
        patch.setattr("m2m.train.checkpoint.LAYOUT", 1)
        old = checkpoints.save(7, {"ema": {}})
    assert checkpoints.load() is None
    message = capsys.readouterr().err
    assert f"checkpoint {old} was written by an older m2m" in message and "step-00000007.outdated" in message
    assert old.with_suffix(".outdated").exists() and not old.exists()
    checkpoints.save(1, {})
    assert checkpoints.load()["step"] == 1
