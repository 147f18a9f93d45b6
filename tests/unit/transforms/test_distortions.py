"""The random distortions and their chain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset

from monai_anat.transforms import (
    RandBezierIntensity,
    RandCutSwap,
    RandDistort,
    RandDistortd,
    RandDistortOne,
    RandInPaint,
    RandLocalPixelShuffle,
    RandOutPaint,
)
from monai_anat.transforms.bezier import BezierDraw, apply_bezier
from monai_anat.transforms.cutting import cut_out, swap_boxes
from monai_anat.transforms.distortions import Distortion, distort
from monai_anat.transforms.local_shuffle import local_pixel_shuffle
from monai_anat.transforms.painting import in_paint, out_paint


def _codes(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(0).randint(0, 256, shape, dtype=np.uint8))


def test_the_chain_shuffles_then_maps_then_paints() -> None:
    image = _codes(1, 64, 64)
    chain = RandDistort().set_random_state(0)
    seen = set()
    for _ in range(30):
        out = chain(image)
        draw = chain.distortion
        assert draw.shuffle is not None
        expected = local_pixel_shuffle(image, draw.shuffle.boxes, draw.shuffle.seed)
        if draw.bezier is None:
            expected = expected / 255
        else:
            expected = apply_bezier(expected, draw.bezier.control_points, draw.bezier.inverted)
        if draw.paint is not None:
            paint = out_paint if draw.paint.outside else in_paint
            expected = paint(expected, draw.paint.boxes, draw.paint.seed)
        assert torch.equal(out, expected)
        seen.add((draw.bezier is None, draw.paint is None or draw.paint.outside))
    assert len(seen) >= 3


def test_codes_and_the_same_gray_levels_as_floats_give_the_same_image() -> None:
    image = _codes(1, 64, 64)
    for seed in range(10):
        from_codes = RandDistort().set_random_state(seed)(image)
        from_floats = RandDistort().set_random_state(seed)(image / 255)
        assert torch.allclose(from_codes, from_floats, atol=1e-7)
        assert from_codes.dtype == torch.float32 and from_codes.min() >= 0 and from_codes.max() <= 1


def test_frequencies_over_10000_draws_are_the_papers() -> None:
    chain, rng = RandDistort(), np.random.RandomState(0)
    draws = [chain.draw(rng, (64, 64)) for _ in range(10000)]
    assert all(draw.shuffle is not None and len(draw.shuffle.boxes) == 40 for draw in draws)
    painted = [draw.paint for draw in draws if draw.paint is not None]
    assert abs(len(painted) / 10000 - 0.9) < 0.015
    assert abs(sum(paint.outside for paint in painted) / len(painted) - 0.8) < 0.015
    assert abs(sum(draw.bezier is not None for draw in draws) / 10000 - 0.9) < 0.015
    assert abs(sum(draw.bezier is not None and draw.bezier.inverted for draw in draws) / 10000 - 0.45) < 0.02
    kept = np.bincount([len(paint.boxes) for paint in painted if paint.outside], minlength=6)
    # the first window always, then up to four more, each with .95
    assert kept[0] == 0 and abs(kept[5] / kept.sum() - 0.95**4) < 0.02 and len(kept) == 6


@pytest.mark.parametrize("shape", [(448, 448), (100, 75), (64, 64, 32)])
def test_boxes_have_the_published_sizes_and_places(shape: tuple[int, ...]) -> None:
    rng, side = np.random.RandomState(0), np.asarray(shape)
    limits = {
        RandLocalPixelShuffle: (1, side // 10, 0),
        RandInPaint: (side // 6, side // 3, 3),
        RandOutPaint: (side - 4 * side // 7, side - 3 * side // 7, 3),
    }
    for kind, (low, high, margin) in limits.items():
        for _ in range(200):
            draw = kind(prob=1.0).draw(rng, shape)
            record = draw.shuffle or draw.paint
            assert record is not None
            start, size = record.boxes[:, 0], record.boxes[:, 1]
            assert (size >= low).all() and (size <= high).all()
            assert (start >= margin).all() and (start + size <= side - margin).all()


def test_sides_are_whole_fractions_for_every_image_size() -> None:
    # U{3H//7..4H//7} and the like: a rounding error of the float fraction would lose a pixel
    for fraction, (numerator, denominator) in {3 / 7: (3, 7), 4 / 7: (4, 7), 1 / 6: (1, 6), 1 / 3: (1, 3)}.items():
        shape = range(denominator, 1000)
        kind = RandInPaint(sides=(fraction, fraction), next_prob=1.0, max_boxes=1)
        boxes = kind.draw(np.random.RandomState(0), tuple(shape)).paint.boxes  # type: ignore[union-attr]
        assert boxes[0, 1].tolist() == [max(1, numerator * side // denominator) for side in shape]


def test_the_share_of_pixels_that_painting_changes_stays_inside_its_bounds() -> None:
    image = torch.zeros(1, 210, 210)
    one_in, one_out = RandInPaint(1.0, max_boxes=1, next_prob=1.0), RandOutPaint(1.0, max_boxes=1)
    for seed in range(20):
        inside = float((one_in.set_random_state(seed)(image) > 0).float().mean())
        assert 1 / 36 - 1e-3 <= inside <= 1 / 9 + 1e-3
        outside = float((one_out.set_random_state(seed)(image) > 0).float().mean())
        assert 1 - (4 / 7) ** 2 - 1e-3 <= outside <= 1 - (3 / 7) ** 2 + 1e-3


def test_exactly_one_of_four_comes_with_equal_probability() -> None:
    rng, one = np.random.RandomState(0), RandDistortOne()
    counts = np.zeros(4)
    for _ in range(4000):
        draw = one.draw(rng, (64, 64, 32))
        kinds = [
            draw.shuffle is not None,
            draw.bezier is not None,
            draw.paint is not None and not draw.paint.outside,
            draw.paint is not None and draw.paint.outside,
        ]
        assert sum(kinds) == 1
        counts += kinds
    np.testing.assert_allclose(counts / 4000, 0.25, atol=0.03)
    only = RandDistortOne(weights=(0, 0, 0, 1))
    assert all(only.draw(rng, (8, 8)).paint.outside for _ in range(20))  # type: ignore[union-attr]


def test_a_draw_can_be_replayed() -> None:
    image, other = torch.rand(1, 32, 32), torch.rand(1, 32, 32)
    chain = RandDistort().set_random_state(0)
    first = chain(image)
    draw = chain.distortion
    chain(other)
    assert torch.equal(distort(image, draw), first)
    assert torch.equal(chain(other, randomize=False), chain(other, randomize=False))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (2, 9, 11), (1, 2, 13, 4)])
def test_images_smaller_than_the_margins_do_not_crash(shape: tuple[int, ...]) -> None:
    for kind in (RandDistort(), RandDistortOne(), RandInPaint(1.0), RandOutPaint(1.0)):
        for seed in range(20):
            out = kind.set_random_state(seed)(_codes(*shape))
            assert out.shape == shape and torch.isfinite(out).all()


def test_prob_0_only_scales() -> None:
    image = _codes(1, 16, 16)
    for kind in (RandDistort, RandDistortOne, RandInPaint, RandOutPaint, RandBezierIntensity, RandLocalPixelShuffle):
        assert torch.equal(kind(prob=0.0)(image), image / 255)


def test_nothing_flips_a_bright_corner_away() -> None:
    image = torch.zeros(1, 70, 70)
    image[0, :20, :20] = 1.0
    for seed in range(20):
        out = RandDistort(paint_prob=0.0, invert_prob=0.0).set_random_state(seed)(image)
        assert out[0, :20, :20].mean() > 0.6 and out[0, 30:, 30:].max() == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_workers_changes_nothing(workers: int) -> None:
    """Seeded per sample, as training does it."""
    loader = DataLoader(_Seeded(8), batch_size=4, num_workers=workers)
    together = torch.cat([batch["image"] for batch in loader])
    alone = torch.stack([_Seeded(8)[i]["image"] for i in range(8)])
    assert torch.equal(together, alone)


class _Seeded(Dataset):
    def __init__(self, length: int) -> None:
        self.transform = RandDistortd("image")
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.transform.set_random_state(index)({"image": torch.full((1, 32, 32), index / 10)})


def test_errors_name_the_argument_and_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"paint_prob must be a probability in \[0, 1\], got 1.5"):
        RandDistort(paint_prob=1.5)
    with pytest.raises(ValueError, match=r"prob must be a probability"):
        RandInPaint(prob=-0.1)
    with pytest.raises(ValueError, match=r"num_blocks must be at least 1, got 0; to leave the distortion out"):
        RandLocalPixelShuffle(num_blocks=0)
    with pytest.raises(ValueError, match=r"sides must be two fractions of the image side, low <= high"):
        RandInPaint(sides=(0.5, 0.2))
    with pytest.raises(ValueError, match=r"weights must be four numbers >= 0"):
        RandDistortOne(weights=(1, 1, 1))
    with pytest.raises(ValueError, match=r"outside it the map is not monotone"):
        distort(torch.rand(1, 4, 4), Distortion(bezier=BezierDraw(((0.0, 2.0), (0.5, 0.5)))))
    with pytest.raises(TypeError, match=r"img must be uint8, uint16 or floating point, got torch.int64"):
        RandDistort()(torch.zeros((1, 8, 8), dtype=torch.int64))


def kind_of(draw: Distortion) -> str:
    if draw.cut is not None:
        return "kept" if draw.cut.outside else "cut"
    return "stays" if draw.swap is None else "swapped"


def test_cuts_and_swaps_come_as_often_and_as_large_as_in_dira() -> None:
    rng, kinds = np.random.RandomState(0), {"cut": 0, "kept": 0, "swapped": 0, "stays": 0}
    limits = {"cut": (10, 70), "kept": (154, 174), "swapped": (10, 15)}
    numbers: dict[str, set[int]] = {name: set() for name in limits}
    seen: dict[str, set[int]] = {name: set() for name in limits}
    for _ in range(10000):
        draw = RandCutSwap().draw(rng, (224, 224))
        kind = kind_of(draw)
        kinds[kind] += 1
        if kind != "stays":
            boxes = draw.cut.boxes if draw.cut is not None else draw.swap.pairs.reshape(-1, 2, 2)
            assert (boxes[:, 0] >= 0).all() and (boxes.sum(1) <= 224).all()
            numbers[kind].add(len(boxes))
            seen[kind] |= set(boxes[:, 1].flatten().tolist())
    for name, share in {"cut": 0.30, "kept": 0.05, "swapped": 0.30, "stays": 0.35}.items():
        assert abs(kinds[name] / 10000 - share) < 0.015
    for name, (low, high) in limits.items():
        assert (min(seen[name]), max(seen[name])) == (low, high)
    assert numbers["cut"] == set(range(1, 11)) and numbers["swapped"] == {20}


def test_cuts_and_swaps_scale_with_the_image_and_stay_whole_in_a_small_one() -> None:
    only_cut = RandCutSwap(cut_prob=1.0, keep_prob=0.0, swap_prob=0.0)
    sides = np.concatenate([only_cut.draw(np.random.RandomState(s), (112, 224)).cut.boxes[:, 1] for s in range(200)])
    assert (sides.min(0).tolist(), sides.max(0).tolist()) == ([5, 10], [35, 70])
    tiny = torch.rand(1, 3, 4)
    for seed in range(30):
        assert RandCutSwap().set_random_state(seed)(tiny).shape == (1, 3, 4)


def test_cuts_and_swaps_are_applied_as_drawn_also_after_a_painting() -> None:
    image, transform = _codes(1, 56, 56), RandCutSwap().set_random_state(1)
    kinds = set()
    for _ in range(40):
        out, draw = transform(image), transform.distortion
        kinds.add(kind_of(draw))
        expected = image
        if draw.cut is not None:
            expected = cut_out(image, draw.cut.boxes, draw.cut.outside)
        elif draw.swap is not None:
            expected = swap_boxes(image, draw.swap.pairs)
        assert torch.equal(out, expected / 255)
    assert kinds == {"cut", "kept", "swapped", "stays"}
    cut = RandCutSwap(cut_prob=1.0, keep_prob=0.0, swap_prob=0.0).draw(np.random.RandomState(0), (56, 56)).cut
    paint = RandInPaint(prob=1.0).draw(np.random.RandomState(0), (56, 56)).paint
    both = distort(image, Distortion(paint=paint, cut=cut))
    assert torch.equal(both, cut_out(in_paint(image, paint.boxes, paint.seed), cut.boxes))


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must add up to 1 at most, got 0.6 \+ 0.05 \+ 0.5"):
        RandCutSwap(cut_prob=0.6, swap_prob=0.5)
    with pytest.raises(ValueError, match=r"cut_sides must be two fractions"):
        RandCutSwap(cut_sides=(0.5, 0.1))
    with pytest.raises(ValueError, match=r"num_swaps must be at least 1, got 0"):
        RandCutSwap(num_swaps=0)
