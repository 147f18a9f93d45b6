"""Files of weights from anywhere: what is read, and what is refused with a sentence."""

from __future__ import annotations

import argparse
import os
import pickle

import pytest
import safetensors.torch
import torch

from monai_anat.networks.pretrained.checkpoints import read_checkpoint


class Hostile:
    """Unpickling it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def state():
    return {"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.float64)}


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_old_and_new(tmp_path, state, zipped):
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(tmp_path / "x.pth")
    assert all(torch.equal(read[name], state[name]) for name in state)


def test_safetensors(tmp_path, state):
    safetensors.torch.save_file(state, tmp_path / "x.safetensors")
    assert torch.equal(read_checkpoint(str(tmp_path / "x.safetensors"))["a"], state["a"])


def test_a_command_line_is_allowed(tmp_path, state):
    torch.save({"student": state, "args": argparse.Namespace(epochs=3)}, tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth")["args"].epochs == 3


@pytest.mark.parametrize("write", ["torch", "torch_legacy", "pickle_2", "pickle_5", "inside_namespace"])
def test_a_hostile_file_is_refused_by_the_name_of_its_class_and_not_run(tmp_path, state, write):
    file, trace = tmp_path / "x.pth", tmp_path / "trace"
    content = {"model": state, "extra": Hostile(trace)}
    if write == "inside_namespace":
        torch.save({"model": state, "args": argparse.Namespace(extra=Hostile(trace))}, file)
    elif write.startswith("torch"):
        torch.save(content, file, _use_new_zipfile_serialization=write == "torch")
    else:
        file.write_bytes(pickle.dumps({"extra": Hostile(trace)}, protocol=int(write[-1])))
    with pytest.raises(ValueError, match=r"x\.pth is refused: it holds a pickled (posix|nt)\.mkdir"):
        read_checkpoint(file)
    assert not trace.exists()


def test_a_pickled_network_is_refused_by_name(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        read_checkpoint(tmp_path / "x.pth")


def _damaged(tmp_path, state):
    whole = tmp_path / "whole.pth"
    torch.save(state, whole)
    old = tmp_path / "old.pth"
    torch.save(state, old, _use_new_zipfile_serialization=False)
    tensors = safetensors.torch.save(state)
    return {
        "half.pth": whole.read_bytes()[: whole.stat().st_size // 2],
        "half_old.pth": old.read_bytes()[: old.stat().st_size - 20],
        "start.pth": old.read_bytes()[:3],
        "text.pth": b"<html>404 not found</html>",
        "picture.pth": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "zeros.pth": bytes(100),
        "half.safetensors": tensors[: len(tensors) - 8],
        "text.safetensors": b"not at all",
    }


def test_damaged_files_are_named(tmp_path, state):
    for name, content in _damaged(tmp_path, state).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is damaged or no .*copy or download it again"):
            read_checkpoint(tmp_path / name)


def test_what_is_no_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pth: there is none"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(ValueError, match="got the folder"):
        read_checkpoint(tmp_path)
    (tmp_path / "empty.pth").touch()
    with pytest.raises(ValueError, match=r"empty\.pth is empty"):
        read_checkpoint(tmp_path / "empty.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list and no dictionary"):
        read_checkpoint(tmp_path / "list.pth")
