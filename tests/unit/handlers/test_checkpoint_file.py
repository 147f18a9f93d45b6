from __future__ import annotations

import errno
import random
import zipfile

import pytest
import torch

from monai_anat.handlers.checkpoint_file import FORMAT, DamagedCheckpointError, read_checkpoint, write_checkpoint

STATE = {"format": FORMAT, "weights": torch.arange(12.0).view(3, 4), "half": torch.ones(5, dtype=torch.bfloat16)}


def test_what_is_written_is_read_by_torch_too(tmp_path):
    path = tmp_path / "a.pt"
    write_checkpoint(STATE, path)
    for state in (read_checkpoint(path), torch.load(path, weights_only=True)):
        assert state.keys() == STATE.keys()
        assert torch.equal(state["weights"], STATE["weights"])
    assert zipfile.ZipFile(path).comment.startswith(b"monai_anat sha256 ")
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.filterwarnings("ignore")
def test_every_flipped_bit_is_found(tmp_path):
    path = tmp_path / "a.pt"
    write_checkpoint(STATE, path)
    content = path.read_bytes()
    draw = random.Random(0)
    for position in range(0, len(content), 3):
        changed = bytearray(content)
        changed[position] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(DamagedCheckpointError):
            read_checkpoint(path)


@pytest.mark.parametrize("cut", [1, 20, 90, 500])
def test_a_truncated_file_is_damaged(tmp_path, cut):
    path = tmp_path / "a.pt"
    write_checkpoint(STATE, path)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DamagedCheckpointError, match=r"a\.pt is damaged"):
        read_checkpoint(path)


def test_a_file_without_checksum_is_read_unless_it_should_have_one(tmp_path):
    torch.save({"weights": 1}, tmp_path / "other.pt")
    assert read_checkpoint(tmp_path / "other.pt") == {"weights": 1}
    torch.save({"format": FORMAT}, tmp_path / "a.pt")
    with pytest.raises(DamagedCheckpointError, match="its checksum is missing"):
        read_checkpoint(tmp_path / "a.pt")


def test_missing_memory_is_no_damage(tmp_path, monkeypatch):
    write_checkpoint(STATE, tmp_path / "a.pt")

    def refuse(*args, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(MemoryError, match=r"is intact but could not be loaded: .*can't allocate"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_full_disk_keeps_the_old_file_and_leaves_no_partial_one(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint({"step": 1}, path)

    def full(state, file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"could not write .*checkpoint.pt \(\d+ MiB free there\): .*No space left"):
        write_checkpoint({"step": 2}, path)
    assert read_checkpoint(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
