"""Evaluation of lists with separate masks, uneven items, damaged files and names that must stay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_anat.data import DatalistError, segmentation_datalist
from monai_anat.evaluation import FewShotSegmentation, compare_encoders, evaluate_encoder, load_cases, load_results
from monai_anat.networks import SwinBackbone, save_encoder

PLANTED = "MEIER^Anna"
FAST = {"resamples": 20, "random_seed": None}
FEW = {"steps": 1, "learning_rates": [1e-3], "seeds": [0], "progress": False, "shots": [1], "modes": ["frozen"]}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2))
    return save_encoder(backbone, tmp_path_factory.mktemp("encoder"), image_size=56, mean=0.5, std=0.25)


@pytest.fixture(scope="module")
def named(tmp_path_factory) -> Path:
    """A datalist whose folders, files and patients carry names, with one unreadable mask of landmarks."""
    root = tmp_path_factory.mktemp("scans")
    sections = {}
    for section in ("training", "validation", "test"):
        items = []
        for number, item in enumerate(segmentation_datalist(section)[:4]):
            folder = root / f"{PLANTED} {section} {number}"
            folder.mkdir()
            paths = {}
            for key in ("image", "label"):
                target = folder / f"{PLANTED}_{number}_{key}{Path(item[key]).suffix}"
                shutil.copy(item[key], target)
                paths[key] = str(target.relative_to(root))
            items.append({**paths, "patient": f"{PLANTED} {section} {number}"})
        sections[section] = items
    empty = root / sections["test"][0]["label"]
    with Image.open(empty) as mask:
        Image.fromarray(np.zeros((mask.height, mask.width), np.uint8)).save(empty)
    (root / "datalist.json").write_text(json.dumps(sections))
    return root / "datalist.json"


def texts(folder: Path) -> dict[str, str]:
    """The content of every file that a user may share, except pictures and arrays of pixels."""
    return {
        str(path.relative_to(folder)): path.read_bytes().decode("latin-1")
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_no_name_leaves_by_evaluation_few_shot_comparison_or_cache(encoder, named, tmp_path) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    names = ("landmarks", "co-segmentation", "symmetry", "collapse")
    options = {**{name: dict(FAST) for name in names}, "few-shot": FEW}
    options["co-segmentation"] |= {"clusters": (3,), "restarts": 1}
    protocols = [*names, "all", "few-shot"]
    every = {name: dict(FAST) for name in ("localizability", "composability", "decomposability", "interpolation")}
    every |= {name: dict(FAST) for name in ("robustness", "scale-consistency", "linear", "k-nn", "label-fractions")}
    results = evaluate_encoder(encoder, named, out, protocols, options={**every, **options}, cache_dir=cache)
    assert results["linear"].skipped, "a reason that names a file"
    assert any("landmark" in note for note in results["landmarks"].notes)
    compare_encoders({"a": encoder, "b": encoder}, named, tmp_path / "both", ["landmarks", "collapse"], options=options)
    for folder in (out, cache, tmp_path / "both"):
        for name, text in texts(folder).items():
            assert "MEIER" not in text and "MEIER" not in name, name
    lookup = json.loads((tmp_path / "out.files.json").read_text())
    assert PLANTED in lookup["test 0"]
    assert PLANTED in load_results(out)["landmarks"].cases["best"]["source"]["image"]
    assert (tmp_path / "both.files.json").is_file()


def test_no_name_leaves_by_few_shot_segmentation(named, tmp_path) -> None:
    sections = json.loads(named.read_text())
    lists = [
        [{**item, **{key: str(named.parent / item[key]) for key in ("image", "label")}} for item in sections[name]]
        for name in ("training", "validation", "test")
    ]
    protocol = FewShotSegmentation(
        shots=1,
        seeds=(0, 1),
        steps=1,
        image_size=56,
        learning_rates=(1e-3,),
        progress=False,
        output_dir=tmp_path / "out",
    )
    result = protocol.run(SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2)), *lists)
    assert PLANTED in result["test_images"][0]
    written = json.loads((tmp_path / "out" / "few_shot.json").read_text())
    assert written["test_images"] == [f"test {number}" for number in range(4)]
    assert all("MEIER" not in text for text in texts(tmp_path / "out").values())


def test_right_and_left_masks_in_separate_files(encoder, named, tmp_path) -> None:
    """The list form of MONAI, ``label: [right, left]``, gives the results of one mask with both lungs."""
    joined = {name: segmentation_datalist(name)[:4] for name in ("training", "validation", "test")}
    split: dict[str, list] = {name: [] for name in joined}
    for name, items in joined.items():
        for number, item in enumerate(items):
            with Image.open(item["label"]) as picture:
                mask = np.asarray(picture)
            paths = [tmp_path / f"{name}_{number}_{side}.png" for side in ("right", "left")]
            for value, path in enumerate(paths, start=1):
                Image.fromarray(np.where(mask == value, 255, 0).astype(np.uint8)).save(path)
            split[name].append({**item, "label": [str(path) for path in paths]})
    assert (load_cases(split["test"], 56).labels == load_cases(joined["test"], 56).labels).all()
    found = []
    for name, lists in (("joined", joined), ("split", split)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(lists))
        options = {name: dict(FAST) for name in ("landmarks", "co-segmentation")} | {"few-shot": FEW}
        options["co-segmentation"] |= {"clusters": (3,), "restarts": 1}
        protocols = ["landmarks", "co-segmentation", "few-shot"]
        results = evaluate_encoder(encoder, path, tmp_path / name, protocols, options=options)
        found.append({protocol: result.metrics for protocol, result in results.items()})
    assert found[0] == found[1]


def test_another_section_can_be_reported(encoder, tmp_path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"external": segmentation_datalist("test")[:4]}))
    results = evaluate_encoder(
        encoder, path, tmp_path / "out", "collapse", section="external", options={"collapse": FAST}
    )
    assert results["collapse"].n_images == 4
    with pytest.raises(DatalistError, match="section"):
        evaluate_encoder(encoder, path, tmp_path / "no", "collapse")
    assert not (tmp_path / "no").exists(), "nothing is written before the arguments are checked"


def test_items_may_differ_in_keys(encoder, tmp_path) -> None:
    items = segmentation_datalist("test")[:5]
    uneven = [
        items[0],
        {"image": items[1]["image"]},
        {**items[2], "view": "PA"},
        items[3],
        {"image": items[4]["image"]},
    ]
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"test": uneven}))
    options = {name: dict(FAST) for name in ("landmarks", "symmetry", "collapse")}
    results = evaluate_encoder(encoder, path, tmp_path / "out", list(options), options=options)
    assert results["landmarks"].n_images == 3
    assert "2 of 5 images are left out, which have no landmarks or lung mask." in results["landmarks"].notes
    assert results["collapse"].n_images == 5


def test_a_truncated_file_is_named_with_its_cause(encoder, tmp_path) -> None:
    items = [dict(item) for item in segmentation_datalist("test")[:3]]
    broken = tmp_path / "broken.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)).save(broken)
    broken.write_bytes(broken.read_bytes()[:600])
    items.append({"image": str(broken), "patient": "x"})
    (tmp_path / "list.json").write_text(json.dumps({"test": items}))
    with pytest.raises(DatalistError, match=r"broken\.png") as error:
        evaluate_encoder(encoder, tmp_path / "list.json", tmp_path / "out", "collapse", options={"collapse": FAST})
    assert "object at 0x" not in str(error.value) and "applying transform" not in str(error.value)


def test_a_cache_of_another_encoder_or_an_edited_image_is_not_reused(encoder, tmp_path) -> None:
    items = [dict(item) for item in segmentation_datalist("test")[:4]]
    edited = tmp_path / "edited.png"
    with Image.open(items[0]["image"]) as picture:
        picture.convert("L").save(edited)
    items[0] = {"image": str(edited), "patient": "x"}
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"test": items}))
    options = {"collapse": FAST}

    def rank(folder: Path, cache: Path | None) -> object:
        out = tmp_path / "out"
        return evaluate_encoder(folder, path, out, "collapse", options=options, cache_dir=cache)["collapse"].metrics

    first = rank(encoder, tmp_path / "cache")
    assert rank(encoder, tmp_path / "cache") == first
    other = save_encoder(
        SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2)),
        tmp_path / "other",
        image_size=56,
        mean=0.5,
        std=0.25,
    )
    assert rank(other, tmp_path / "cache") == rank(other, None) != first
    with Image.open(edited) as picture:
        turned = picture.transpose(Image.Transpose.ROTATE_90)
    turned.save(edited)
    assert rank(encoder, tmp_path / "cache") == rank(encoder, None) != first


def test_damaged_features_are_computed_again(encoder, tmp_path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"test": segmentation_datalist("test")[:4]}))
    cache, options = tmp_path / "cache", {"collapse": FAST}
    first = evaluate_encoder(encoder, path, tmp_path / "a", "collapse", options=options, cache_dir=cache)
    for data in cache.rglob("*.bin"):
        content = bytearray(data.read_bytes())
        content[5] ^= 64
        data.write_bytes(content)
    again = evaluate_encoder(encoder, path, tmp_path / "b", "collapse", options=options, cache_dir=cache)
    assert again["collapse"].metrics == first["collapse"].metrics
