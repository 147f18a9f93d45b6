"""POPAR: views, distorted or shuffled but never both, and the wiring of the two terms."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from math import log
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from monai_anat.methods import POPARMethod, RandPOPARViewsd
from monai_anat.networks import SwinBackbone
from monai_anat.schedules import Progress
from monai_anat.transforms import RandDistort
from monai_anat.transforms.patch_shuffle import restore_patches

START = Progress(0, 1, 0, 1)
NO_DISTORTION = RandDistort(shuffle_prob=0.0, bezier_prob=0.0, paint_prob=0.0)


def tiny_method(**options: Any) -> POPARMethod:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    return POPARMethod(backbone, image_size=16, **options)


#: used by the contract tests
CASE = SimpleNamespace(
    method=tiny_method,
    views=lambda: RandPOPARViewsd(grid_size=4, cell_size=4),
    image=lambda seed: np.random.RandomState(seed).randint(0, 256, (1, 16, 16)).astype(np.uint8),
)


def image_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def draw(views: RandPOPARViewsd, image: Any, seed: int) -> dict[Any, Any]:
    return views.set_random_state(seed)({"image": image})


# ---------------------------------------------------------------------- views


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 16), (1, 16, 16, 16)])
def test_a_shuffled_view_restores_exactly_and_a_distorted_one_has_the_identity(shape: tuple[int, ...]) -> None:
    image, views, seen = image_of(*shape), RandPOPARViewsd(grid_size=4, cell_size=4), Counter[str]()
    cells = 4 ** (len(shape) - 1)
    for seed in range(20):
        sample = draw(views, image, seed)
        torch.testing.assert_close(sample["target"], (image - 0.5056) / 0.252)
        assert sample["view_1"].shape == sample["target"].shape == shape
        assert sorted(sample["order"].tolist()) == list(range(cells))
        shuffled = sample["order"].tolist() != list(range(cells))
        seen["shuffled" if shuffled else "distorted"] += 1
        if shuffled:
            assert torch.equal(restore_patches(sample["view_1"], sample["order"], 4), sample["target"])
        else:
            assert not torch.equal(sample["view_1"], sample["target"])
    assert min(seen["shuffled"], seen["distorted"]) >= 4


def test_the_coin_is_fair_and_the_order_uniform() -> None:
    views, image = RandPOPARViewsd(grid_size=2, cell_size=2, distorter=NO_DISTORTION), image_of(1, 4, 4)
    views.set_random_state(0)
    heads, first = 0, Counter[int]()
    for _ in range(2000):
        sample = views({"image": image})
        if views.corruption.order is None:
            heads += 1
            assert sample["order"].tolist() == [0, 1, 2, 3]
        else:
            first[int(sample["order"][0])] += 1
    assert 0.46 < heads / 2000 < 0.54
    assert all(0.2 < first[cell] / (2000 - heads) < 0.3 for cell in range(4))


@pytest.mark.parametrize(("prob", "shuffles"), [(0.0, True), (1.0, False)])
def test_one_side_of_the_coin_alone(prob: float, shuffles: bool) -> None:
    views = RandPOPARViewsd(grid_size=4, cell_size=4, distort_prob=prob)
    for seed in range(5):
        draw(views, image_of(1, 16, 16), seed)
        assert (views.corruption.order is not None) is shuffles
        assert (views.corruption.distortion is None) is shuffles


def test_hand_case() -> None:
    image = torch.tensor([[[0.0, 0.1], [0.2, 0.3]]])
    views = RandPOPARViewsd(grid_size=2, cell_size=1, distort_prob=0.0, mean=0.0, std=1.0)
    for seed in range(50):
        sample = draw(views, image, seed)
        if sample["order"].tolist() == [2, 0, 3, 1]:
            torch.testing.assert_close(sample["view_1"], torch.tensor([[[0.2, 0.0], [0.3, 0.1]]]))
            return
    pytest.fail("the order (2, 0, 3, 1) never came")


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_codes_and_their_gray_levels_give_the_same_views(prob: float) -> None:
    codes = np.random.RandomState(0).randint(0, 256, (1, 32, 32)).astype(np.uint8)
    views = RandPOPARViewsd(grid_size=4, cell_size=8, distort_prob=prob)
    for seed in range(5):
        first, second = draw(views, codes, seed), draw(views, (codes / 255).astype(np.float32), seed)
        for name in first:
            torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-5)


def test_same_seed_same_views_also_after_pickling() -> None:
    views, image = RandPOPARViewsd(grid_size=4, cell_size=4), image_of(1, 16, 16)
    copy = pickle.loads(pickle.dumps(views))
    for seed in range(4):
        first, second, third = draw(views, image, seed), draw(views, image, seed), draw(copy, image, seed)
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert all(torch.equal(first[name], third[name]) for name in first)


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image must be \(448, 448\) pixels, 14 cells of 32, got \(450, 448\)"):
        RandPOPARViewsd()({"image": image_of(1, 450, 448)})
    with pytest.raises(ValueError, match="distort_prob must be a probability"):
        RandPOPARViewsd(distort_prob=1.5)


# ---------------------------------------------------------------------- method


def batch_of(views: RandPOPARViewsd, images: list[Any]) -> dict[str, Tensor]:
    samples = [draw(views, image, seed) for seed, image in enumerate(images)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def test_the_order_target_is_the_original_place(
    cell_backbone: Callable[..., Any], reads_cell_number: Callable[..., Any], numbered: Callable[..., Any]
) -> None:
    method = POPARMethod(cell_backbone(4), image_size=16)
    method.order_head = reads_cell_number(16)
    views = RandPOPARViewsd(grid_size=4, cell_size=4, distort_prob=0.0)
    views.normalize = lambda pixels: pixels.float()  # type: ignore[method-assign]  # the pixels are cell numbers
    batch = batch_of(views, [numbered((4, 4))] * 4)
    assert method(batch, START)["order"].item() == pytest.approx(0.0, abs=1e-6)
    inverse = {**batch, "order": batch["order"].argsort(1)}
    assert method(inverse, START)["order"].item() > 1.0


@pytest.mark.parametrize("dims", [2, 3])
def test_copying_each_cell_restores_an_unshuffled_view_only(dims: int, cell_backbone: Callable[..., Any]) -> None:
    method = POPARMethod(cell_backbone(4, spatial_dims=dims), image_size=16)
    features = method.backbone.num_features
    method.restoration_head.linear.weight.data.copy_(torch.eye(features))
    method.restoration_head.linear.bias.data.zero_()
    images = [image_of(1, *[16] * dims, seed=seed) for seed in range(3)]
    clean = batch_of(RandPOPARViewsd(grid_size=4, cell_size=4, distort_prob=1.0, distorter=NO_DISTORTION), images)
    assert method(clean, START)["restoration"].item() == pytest.approx(0.0, abs=1e-10)
    shuffled = batch_of(RandPOPARViewsd(grid_size=4, cell_size=4, distort_prob=0.0), images)
    assert method(shuffled, START)["restoration"].item() > 0.1


def test_uniform_scores_are_at_chance() -> None:
    method = tiny_method()
    nn.init.zeros_(method.order_head.linear.weight)
    nn.init.zeros_(method.order_head.linear.bias)
    batch = batch_of(CASE.views(), [CASE.image(seed) for seed in range(3)])
    assert method(batch, START)["order"].item() == pytest.approx(log(16), rel=1e-6)


def test_terms_equal_slow_separate_formulas() -> None:
    method = tiny_method().eval()
    batch = batch_of(CASE.views(), [CASE.image(seed) for seed in range(4)])
    orders, errors = [], []
    for view, target, order in zip(batch["view_1"], batch["target"], batch["order"], strict=True):
        feature_map = method.backbone(view[None])[0]  # (D, 4, 4)
        for position, original in enumerate(order.tolist()):
            scores = method.order_head.linear(feature_map[:, position // 4, position % 4])
            orders.append(scores.logsumexp(0) - scores[original])
            cell = method.restoration_head.linear(feature_map[:, position // 4, position % 4]).view(4, 4)
            row, column = position // 4 * 4, position % 4 * 4
            errors.append((cell - target[0, row : row + 4, column : column + 4]).square().mean())
    terms = method(batch, START)
    torch.testing.assert_close(terms["order"], torch.stack(orders).mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(terms["restoration"], torch.stack(errors).mean(), rtol=1e-5, atol=1e-5)


def test_weights_and_heads() -> None:
    assert tiny_method().loss_weights == {"order": 0.5, "restoration": 0.5}
    batch = batch_of(CASE.views(), [CASE.image(0)])
    alone = tiny_method(order_weight=0.0, restoration_weight=2.0)
    assert alone.loss_weights == {"restoration": 2.0}
    assert not hasattr(alone, "order_head")
    assert set(alone(batch, START)) == {"restoration"}
    assert set(tiny_method(restoration_weight=0.0)(batch, START)) == {"order"}
    with pytest.raises(ValueError, match="one must be positive"):
        tiny_method(order_weight=0.0, restoration_weight=0.0)


def test_a_volume_trains() -> None:
    backbone = SwinBackbone(spatial_dims=3, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, patch_size=4)
    method = POPARMethod(backbone, image_size=32)
    views = RandPOPARViewsd(grid_size=4, cell_size=8)
    batch = batch_of(views, [image_of(1, 32, 32, 32, seed=seed) for seed in range(4)])
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=1e-3)
    before = sum(method(batch, START).values())
    before.backward()
    optimizer.step()
    assert torch.isfinite(before)
    assert sum(method(batch, START).values()) < before


def test_views_of_another_grid_are_refused() -> None:
    method = tiny_method()
    larger = batch_of(RandPOPARViewsd(grid_size=8, cell_size=4), [image_of(1, 32, 32)])
    with pytest.raises(ValueError, match=r"view_1 must be \(B, C, 16, 16\), got \(1, 1, 32, 32\).*RandPOPARViewsd"):
        method(larger, START)
    coarser = batch_of(RandPOPARViewsd(grid_size=2, cell_size=8), [image_of(1, 16, 16)])
    with pytest.raises(ValueError, match=r"order must be \(B, 16\), .*4 x 4 tokens, got \(1, 4\).*cell_size = strides"):
        method(coarser, START)
    with pytest.raises(ValueError, match=r"image_size=18 and strides\[-1\]=4; nearest is 16"):
        POPARMethod(method.backbone, image_size=18)
