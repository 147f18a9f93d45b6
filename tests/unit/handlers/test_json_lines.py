from __future__ import annotations

from monai_anat.handlers.json_lines import drop_lines_after


def test_later_lines_and_incomplete_ones_are_removed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 3}\n{"other": 2}\n{"step": 2}\n{"step": 2, "partial": 1}\n{"ste')
    drop_lines_after(2, path)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    drop_lines_after(2, tmp_path / "nothing.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]
