"""Atomic writes, folder locks and file fingerprints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monai_anat import files
from monai_anat.files import (
    FolderInUseError,
    FolderLock,
    file_key,
    file_sha256,
    replace_file,
    write_bytes_atomically,
    write_text_atomically,
)

HOLDER = """
import sys, time
from monai_anat.files import FolderLock
with FolderLock(sys.argv[1], "a test"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_new_content_replaces_the_old_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a.txt"
    write_text_atomically(path, "old")
    write_bytes_atomically(path, b"new")
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_keeps_the_old_content_and_names_the_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    refused = pytest.raises(OSError, match=r"could not write .*a\.txt \(\d+ MiB free there\): the disk is full")
    with refused, replace_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("the disk is full")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_other_errors_pass_and_leave_nothing(tmp_path):
    with pytest.raises(KeyError), replace_file(tmp_path / "a.txt"):
        raise KeyError("name")
    assert [file.name for file in tmp_path.iterdir()] == []


def test_the_file_is_readable_as_umask_says(tmp_path):
    write_text_atomically(tmp_path / "a.txt", "x")
    (tmp_path / "b.txt").write_text("x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_the_key_of_a_file_changes_with_its_size_and_time_and_not_with_the_way_to_it(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("one")
    before = file_key(path)
    monkeypatch.chdir(tmp_path)
    assert file_key("a.txt") == before
    os.utime(path, ns=(1, 1))
    assert file_key(path) != before


def test_the_checksum_is_that_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_second_process_is_refused_by_name_and_a_killed_one_leaves_no_lock(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(
                FolderInUseError, match=rf"run is in use by a test, process {holder.pid} on host .*choose"
            ):
                FolderLock(folder, "another test").acquire()
        finally:
            holder.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while True:
        try:
            with FolderLock(folder, "another test") as lock:
                assert lock.is_held
            break
        except FolderInUseError:
            assert time.monotonic() < deadline
    assert not lock.is_held
    assert not Path(folder / ".monai_anat.lock.json").exists()


#: holds a lock, forks a child that outlives it, and is killed
FORKING_HOLDER = """
import os, runpy, sys, time
files = runpy.run_path(sys.argv[1])
lock = files["FolderLock"](sys.argv[2], "a test")
lock.acquire()
child = os.fork()
if child == 0:
    time.sleep(30)
    os._exit(0)
print(child, flush=True)
time.sleep(30)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_outlives_the_holder_does_not_hold_the_lock(tmp_path):
    command = [sys.executable, "-c", FORKING_HOLDER, files.__file__, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        child = int(holder.stdout.readline())
        time.sleep(0.3)
        with pytest.raises(FolderInUseError):
            FolderLock(tmp_path, "another test").acquire()
        holder.kill()
    try:
        with FolderLock(tmp_path, "another test") as lock:
            assert lock.is_held
    finally:
        os.kill(child, signal.SIGKILL)
