"""Few-shot segmentation: comparison of arms, choice of the rate, and test patients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import resnet18
from PIL import Image

from monai_anat.data import DatalistError, take_shots
from monai_anat.evaluation import FewShotSegmentation
from monai_anat.networks import Backbone, ViTBackbone, as_backbone

FAST = {
    "image_size": 48,
    "steps": 25,
    "mean": 0.0,
    "std": 1.0,
    "progress": False,
    "precision": "fp32",
    "decoder_features": 16,
}


def test_an_encoder_that_knows_beats_one_that_does_not(lungs, gray_bands, tmp_path) -> None:
    protocol = FewShotSegmentation(shots=2, seeds=(0, 1), learning_rates=(1e-5, 1e-2), output_dir=tmp_path, **FAST)
    arms = {"knows": lambda: gray_bands(knows=True), "blind": lambda: gray_bands(knows=False)}
    result = protocol.compare(arms, lungs["training"], lungs["validation"], lungs["test"])
    knows, blind = (result["arms"][name] for name in arms)
    assert knows["learning_rate"] == 1e-2, "a rate that learns nothing is not chosen"
    assert knows["validation"]["0.01"] > knows["validation"]["1e-05"]
    assert knows["mean"] > 0.6
    assert knows["mean"] > blind["mean"] + 0.2
    assert result["difference"]["knows - blind"]["interval"][0] > 0
    assert result["difference"]["knows - blind"]["draws_better"] == 1.0
    assert all(len(names) == 2 for names in result["draws"].values())
    written = json.loads((tmp_path / "few_shot.json").read_text())
    kept = ("protocol", "arms", "difference")
    assert {key: written[key] for key in kept} == json.loads(json.dumps({key: result[key] for key in kept}))
    assert written["test_images"] == [f"test {number}" for number in range(4)]
    assert all(name.startswith("training ") for names in written["draws"].values() for name in names)
    masks = np.load(tmp_path / "few_shot_masks.npz", allow_pickle=False)
    assert masks["knows/0"].shape == masks["labels"].shape == (4, 48, 48)
    dice = 2 * ((masks["knows/0"] == 1) & (masks["labels"] == 1)).sum((1, 2))
    dice = dice / ((masks["knows/0"] == 1).sum((1, 2)) + (masks["labels"] == 1).sum((1, 2)))
    assert dice.mean() == pytest.approx(knows["draws"][0]["right lung"], abs=1e-6)


def test_equal_arms_come_out_equal_and_the_encoder_stays_as_it_is(lungs) -> None:
    torch.manual_seed(0)
    encoder = ViTBackbone(image_size=48, patch_size=8, embed_dim=8, depth=4, num_heads=2)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    protocol = FewShotSegmentation(shots=2, seeds=(3,), learning_rates=(1e-3,), **{**FAST, "steps": 4})
    arms = {"one": lambda: ViTBackbone(**encoder.config), "two": lambda: ViTBackbone(**encoder.config)}
    result = protocol.compare(arms, lungs["training"], lungs["validation"], lungs["test"])
    assert result["arms"]["one"]["draws"] == result["arms"]["two"]["draws"]
    assert result["difference"]["one - two"]["mean"] == 0
    run = protocol.run(encoder, lungs["training"], lungs["validation"], lungs["test"])
    assert list(run["arms"]) == ["pre-trained", "scratch"]
    assert run["arms"]["scratch"]["draws"] == result["arms"]["one"]["draws"], "scratch is seeded by the draw alone"
    assert run["arms"]["pre-trained"]["draws"] != run["arms"]["scratch"]["draws"]
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_the_decoder_of_a_draw_starts_the_same_in_every_arm(gray_bands) -> None:
    def drawing() -> Backbone:
        torch.rand(7)
        return gray_bands()

    protocol = FewShotSegmentation(**FAST)
    decoders = [
        protocol._network(make, seed).decoder.state_dict()
        for make, seed in ((gray_bands, 1), (drawing, 1), (drawing, 2))
    ]
    assert all(torch.equal(value, decoders[1][name]) for name, value in decoders[0].items())
    assert not torch.equal(decoders[1]["head.weight"], decoders[2]["head.weight"])


def test_the_encoder_can_learn_more_slowly_and_norms_do_not_decay(gray_bands) -> None:
    protocol = FewShotSegmentation(**FAST, encoder_lr_scale=0.1, weight_decay=0.3)
    network = protocol._network(gray_bands, 0)
    groups = protocol._groups(network, 1e-3)
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert len(rate) == len(list(network.parameters()))
    assert all(rate[id(parameter)] == pytest.approx(1e-4) for parameter in network.backbone.parameters())
    assert all(rate[id(parameter)] == pytest.approx(1e-3) for parameter in network.decoder.parameters())
    assert all((decay[id(parameter)] == 0.3) == (parameter.ndim > 1) for parameter in network.parameters())


def test_augmentation_is_an_argument_and_part_of_the_record(lungs, gray_bands) -> None:
    settings = {**FAST, "steps": 3, "shots": 1, "seeds": (0,), "learning_rates": (1e-2,)}
    results = [
        FewShotSegmentation(**settings, augmentation=augmentation).compare(
            {"a": gray_bands}, lungs["training"], lungs["validation"], lungs["test"]
        )
        for augmentation in ({}, {"shift": 0.4})
    ]
    assert results[1]["protocol"]["augmentation"] == {"shift": 0.4}
    assert results[0]["arms"]["a"]["validation"] != results[1]["arms"]["a"]["validation"]


def test_draws_are_nested_and_test_patients_choose_nothing(lungs, gray_bands) -> None:
    def outcome(shots: int, test: list) -> dict:
        protocol = FewShotSegmentation(shots=shots, seeds=(5,), learning_rates=(1e-3, 1e-2), **{**FAST, "steps": 3})
        return protocol.compare({"a": gray_bands}, lungs["training"], lungs["validation"], test)

    few, more = outcome(2, lungs["test"]), outcome(4, lungs["test"])
    assert few["draws"]["5"] == more["draws"]["5"][:2]
    other = outcome(2, lungs["test"][:1])
    assert other["arms"]["a"]["validation"] == few["arms"]["a"]["validation"]
    assert other["arms"]["a"]["learning_rate"] == few["arms"]["a"]["learning_rate"]


def test_fewer_draws_can_choose_the_rate(lungs, gray_bands) -> None:
    settings = {**FAST, "steps": 2}
    protocol = FewShotSegmentation(shots=1, seeds=(0, 1, 2), learning_rates=(1e-3, 1e-2), selection_seeds=1, **settings)
    steps = []
    fit = protocol._fit
    protocol._fit = lambda network, shots, rate, seed, bar: (
        steps.append((rate, seed)),
        fit(network, shots, rate, seed, bar),
    )
    result = protocol.compare({"a": gray_bands}, lungs["training"], lungs["validation"], lungs["test"])
    chosen = result["arms"]["a"]["learning_rate"]
    assert steps == [(1e-3, 0), (1e-2, 0), (chosen, 1), (chosen, 2)]
    assert len(result["arms"]["a"]["draws"]) == 3


def test_wrong_settings_and_mixed_splits_are_named(lungs, gray_bands) -> None:
    with pytest.raises(ValueError, match=r"seeds must be different numbers, at least one, got \[1, 1\]"):
        FewShotSegmentation(seeds=(1, 1))
    with pytest.raises(ValueError, match="learning_rates must be positive"):
        FewShotSegmentation(learning_rates=(0.0,))
    with pytest.raises(ValueError, match="steps=0"):
        FewShotSegmentation(steps=0)
    with pytest.raises(DatalistError, match="one split only"):
        FewShotSegmentation(progress=False).compare(
            {"a": gray_bands}, lungs["training"], lungs["validation"], lungs["training"]
        )


def test_masks_that_cannot_be_scored_are_named_before_any_training(lungs, gray_bands, tmp_path) -> None:
    def with_masks(items, values):
        changed = []
        for item in items:
            mask = np.asarray(values, np.uint8)[np.array(Image.open(item["label"]))]
            path = tmp_path / f"{values}_{Path(item['label']).name}"
            Image.fromarray(mask).save(path)
            changed.append({**item, "label": str(path)})
        return changed

    protocol = FewShotSegmentation(shots=2, seeds=(0,), learning_rates=(1e-3,), **FAST)
    arms, splits = {"a": gray_bands}, [lungs[name] for name in ("training", "validation", "test")]
    with pytest.raises(
        DatalistError, match=r"training masks must hold the numbers of .*, 0 to 2, got 255 in training_"
    ):
        protocol.compare(arms, with_masks(splits[0], [0, 255, 255]), *splits[1:])
    with pytest.raises(DatalistError, match=r"test masks must show at least one of .*, got none in 4"):
        protocol.compare(arms, *splits[:2], with_masks(splits[2], [0, 0, 0]))
    with pytest.raises(DatalistError, match=r"training masks must show at least one of .*, got none in 2"):
        protocol.compare(arms, with_masks(splits[0], [0, 0, 0]), *splits[1:])
    bits = FewShotSegmentation(shots=2, seeds=(0,), learning_rates=(1e-3,), overlapping=True, **FAST)
    with pytest.raises(DatalistError, match=r"the sums of the bits of \['right lung', 'left lung'\], 0 to 3, got 4 in"):
        bits.compare(arms, with_masks(splits[0], [0, 1, 4]), *splits[1:])


def test_only_the_images_that_were_drawn_are_read(lungs, gray_bands, tmp_path) -> None:
    protocol = FewShotSegmentation(shots=1, seeds=(0,), learning_rates=(1e-3,), **{**FAST, "steps": 1})
    splits = [lungs[name] for name in ("training", "validation", "test")]
    drawn = take_shots(splits[0], 1, 0)[0]["image"]
    absent = [item if item["image"] == drawn else {**item, "image": str(tmp_path / "gone.png")} for item in splits[0]]
    result = protocol.compare({"a": gray_bands}, absent, *splits[1:])
    assert result["draws"] == {"0": [Path(drawn).name]}


def test_a_wrapped_network_has_a_scratch_arm_too(lungs) -> None:
    encoder = as_backbone(resnet18(spatial_dims=2, n_input_channels=1, feed_forward=False))
    protocol = FewShotSegmentation(shots=1, seeds=(0,), learning_rates=(1e-3,), **{**FAST, "steps": 1})
    result = protocol.run(encoder, lungs["training"], lungs["validation"], lungs["test"])
    assert list(result["arms"]) == ["pre-trained", "scratch"]


def test_an_image_without_any_structure_has_no_dice_and_valid_json(lungs, gray_bands, tmp_path) -> None:
    empty = tmp_path / "empty.png"
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(empty)
    protocol = FewShotSegmentation(shots=1, seeds=(0,), learning_rates=(1e-3,), **{**FAST, "steps": 1})
    test = [{**lungs["test"][0], "label": str(empty)}, lungs["test"][1]]
    result = protocol.compare({"a": gray_bands}, lungs["training"], lungs["validation"], test)
    assert result["arms"]["a"]["draws"][0]["dice_by_image"][0] is None
    json.dumps(result, allow_nan=False)
