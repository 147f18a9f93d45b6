from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.preparation.identity import default_key_file, keyed_hash, load_key


def test_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "key"
    key = load_key(file)
    assert len(key) == 32 and load_key(file) == key and load_key(tmp_path / "other") != key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_default_place_follows_the_users_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_key_file() == tmp_path / "monai_anat" / "patient.key"
    assert load_key() == load_key(default_key_file())
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert default_key_file().is_relative_to(Path.home())


def test_wrong_or_unwritable_key_files(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("not a key")
    with pytest.raises(DatalistError, match="64 hexadecimal digits"):
        load_key(tmp_path / "bad")
    with pytest.raises(DatalistError, match="cannot be read or written"):
        load_key(tmp_path / "bad" / "key")


def test_hash_depends_on_key_and_value_and_shows_neither() -> None:
    first = keyed_hash(b"k", "Doe")
    assert len(first) == 32 and "Doe" not in first
    assert len({first, keyed_hash(b"l", "Doe"), keyed_hash(b"k", "Do"), keyed_hash(b"k", "\udcff")}) == 4


def test_processes_that_begin_together_get_one_key(tmp_path: Path) -> None:
    """Without the link, the second one failed, or read a file without content."""
    for number in range(20):
        with ThreadPoolExecutor(8) as pool:
            keys = set(pool.map(lambda _: load_key(tmp_path / f"key {number}"), range(8)))  # noqa: B023
        assert len(keys) == 1
    assert not list(tmp_path.glob(".key*"))


def test_a_key_that_another_process_made_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    key = load_key(file)
    monkeypatch.setattr(Path, "is_file", lambda self: False)  # as it was when this process looked
    assert load_key(file) == key
