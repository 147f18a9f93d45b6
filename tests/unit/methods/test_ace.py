"""ACE: crops of two scales, and the wiring of the three terms."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.methods import ACEMethod, RandACEViewsd, ace
from monai_anat.networks import ResNetBackbone, SwinBackbone, ViTBackbone
from monai_anat.schedules import Progress
from monai_anat.transforms import Appearance, RandAppearance

START = Progress(0, 1, 0, 1)
TERMS = {"decomposition", "composition", "global_consistency"}
SMALL_HEAD = {"num_prototypes": 24, "head_features": 16, "bottleneck_features": 8}
UNCHANGED = {"appearance": RandAppearance(jitter_prob=0, blur_prob=0), "sharpen_prob": 0.0, "equalize_prob": 0.0}
#: batch normalization removes the bias of the preceding convolution
BIASES = tuple(f"dense_head.layers.{number}.0.bias" for number in range(3))


def tiny_method(**options: Any) -> ACEMethod:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    return ACEMethod(backbone, **{"image_size": 16, "frozen_prototype_epochs": 0, **SMALL_HEAD, **options})


def tiny_views(**options: Any) -> RandACEViewsd:
    return RandACEViewsd(**{"grid_size": 4, "cell_size": 4, "source_grid": 10, **options})


def tiny_image(seed: int) -> Any:
    return np.random.RandomState(seed).randint(0, 256, (1, 43, 41)).astype(np.uint8)


#: used by the contract tests
CASE = SimpleNamespace(method=tiny_method, views=tiny_views, image=tiny_image, without_gradient=BIASES)
MORE_CASES = {
    "frozen": SimpleNamespace(
        method=lambda: tiny_method(frozen_prototype_epochs=1), views=tiny_views, image=tiny_image
    ),
    "one_axis": SimpleNamespace(
        method=lambda: tiny_method(scale=(1, 2), normalize_student=False),
        views=lambda: tiny_views(scale=(1, 2)),
        image=tiny_image,
        without_gradient=BIASES,
    ),
}


def image_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def batch_of(views: RandACEViewsd, images: list[Any]) -> dict[str, Tensor]:
    samples = [views.set_random_state(seed)({"image": image}) for seed, image in enumerate(images)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def tiny_batch(size: int = 4) -> dict[str, Tensor]:
    return batch_of(tiny_views(), [tiny_image(seed) for seed in range(size)])


def moved_teacher(method: ACEMethod) -> ACEMethod:
    """The method in evaluation mode with a teacher and a center that differ from the initial ones."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (p for _, teacher in method.student_teacher_pairs() for p in teacher.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        method.distillation.center.center.normal_(generator=generator).mul_(0.05)
    return method.eval()


# ---------------------------------------------------------------------- views


@pytest.mark.parametrize("scale", [(2, 2), (1, 2), (2, 1), (1, 1)])
def test_tokens_of_the_large_crop_are_the_mean_of_their_parts(scale: tuple[int, int]) -> None:
    views = tiny_views(source_grid=11, scale=scale, area=(1.0, 1.0), mean=0.0, std=1.0, **UNCHANGED)
    image, offsets = image_of(1, 44, 44), set()
    for seed in range(20):
        sample = views.set_random_state(seed)({"image": image})
        large, small = (F.avg_pool2d(sample[name], 4)[0] for name in ("view_1", "view_2"))  # (4, 4) cells
        down, right = sample["crop_offset"].tolist()
        offsets.add((down, right))
        pairs = 0
        for row in range(4):
            for column in range(4):
                r, c = scale[0] * row - down, scale[1] * column - right
                if 0 <= r < 4 and 0 <= c < 4:
                    whole = small[r : r + scale[0], c : c + scale[1]].mean()
                    torch.testing.assert_close(large[row, column], whole, rtol=1e-4, atol=1e-5)
                    pairs += 1
        assert pairs > 0
    assert len(offsets) > 5


def test_the_crops_of_the_paper() -> None:
    views, R = RandACEViewsd(**UNCHANGED), np.random.RandomState(0)
    sample = views.set_random_state(0)({"image": R.randint(0, 256, (1, 1024, 1000)).astype(np.uint8)})
    assert sample["view_1"].shape == sample["view_2"].shape == (1, 448, 448)
    assert sample["crop_offset"].dtype == torch.long
    for _ in range(300):
        views.randomize((1024, 1000))
        assert 0.85 * 0.99 <= np.prod(views.box[1]) / 1024000 <= 1
        assert all(-4 <= apart <= 18 and apart % 2 == 0 for apart in views.crops.offset)


def test_each_crop_changes_by_a_draw_of_its_own() -> None:
    views = tiny_views()
    views.set_random_state(0)
    changes = []
    for _ in range(400):
        views.randomize((40, 40))
        changes += views.changes
    assert sum(first != second for first, second in zip(changes[::2], changes[1::2], strict=True)) > 300
    jittered = np.mean([change[0].brightness != 1 for change in changes])
    blurred, sharpened, equalized = (
        np.mean(values)
        for values in (
            [change[0].blur_sigma > 0 for change in changes],
            [change[1] > 0 for change in changes],
            [change[2] > 0 for change in changes],
        )
    )
    assert [jittered, blurred, sharpened, equalized] == pytest.approx([0.5, 0.5, 0.3, 0.3], abs=0.06)
    assert all(0.8 <= change[0].brightness <= 1.2 and 0.8 <= change[0].contrast <= 1.2 for change in changes)
    assert all(change[0].angle == 0 and not change[0].solarized for change in changes)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ((Appearance(brightness=1.2), 0.0, 0.0), "brightness"),
        ((Appearance(blur_sigma=1.5), 0.0, 0.0), "blur"),
        ((Appearance(), 0.4, 0.0), "sharpen"),
        ((Appearance(), 0.0, 3.0), "equalize"),
    ],
)
def test_every_change_reaches_its_crop_alone(change: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    views, image, none = tiny_views(), image_of(1, 40, 40), (Appearance(), 0.0, 0.0)
    draw = RandACEViewsd.randomize

    def fixed(self: RandACEViewsd, data: Any) -> None:
        draw(self, data)
        self.changes = list(wanted)

    monkeypatch.setattr(RandACEViewsd, "randomize", fixed)
    wanted: list[Any] = [none, none]
    plain = views.set_random_state(0)({"image": image})
    for number, (changed, same) in enumerate((("view_1", "view_2"), ("view_2", "view_1"))):
        wanted = [change if crop == number else none for crop in range(2)]
        sample = views.set_random_state(0)({"image": image})
        assert torch.equal(sample[same], plain[same])
        assert (sample[changed] - plain[changed]).abs().max() > 0.1, name


def test_codes_and_their_gray_levels_give_the_same_views_and_so_do_seeds_and_pickles() -> None:
    views, copy = tiny_views(equalize_prob=0.0), pickle.loads(pickle.dumps(tiny_views(equalize_prob=0.0)))
    for seed in range(5):
        codes = tiny_image(seed)
        samples = [
            v.set_random_state(seed)({"image": image})
            for v, image in ((views, codes), (copy, codes), (views, (codes / 255).astype(np.float32)))
        ]
        for name in ("view_1", "view_2", "crop_offset"):
            assert torch.equal(samples[0][name], samples[1][name])
            torch.testing.assert_close(samples[0][name], samples[2][name], rtol=0, atol=1e-4)


def test_views_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"must be \(C, H, W\), got \(1, 40, 40, 40\); RandACEViewsd is 2D"):
        tiny_views()({"image": image_of(1, 40, 40, 40)})
    with pytest.raises(ValueError, match=r"grid_size must be a multiple of scale.*=7 .*even grid"):
        RandACEViewsd(grid_size=7)
    with pytest.raises(ValueError, match=r"source_grid must be from 28 to 41 cells .* got 20"):
        RandACEViewsd(source_grid=20)
    with pytest.raises(ValueError, match=r"scale must be two numbers of 1 or 2 .* got \(3, 3\)"):
        RandACEViewsd(scale=(3, 3))
    with pytest.raises(ValueError, match=r"sharpen_prob must be a probability in \[0, 1\], got 2"):
        RandACEViewsd(sharpen_prob=2)
    with pytest.raises(ValueError, match=r"area must be two shares of the image in \(0, 1\]"):
        RandACEViewsd(area=(0.5, 2.0))


# ---------------------------------------------------------------------- wiring


def gaussian(row: int, column: int, at: tuple[int, int], side: int, radius: int) -> float:
    """Soft target of cell (row, column) for a token at a position on a grid of ``side`` cells."""
    if not all(0 <= place < side for place in at):
        return 0.0
    apart = (row - at[0], column - at[1])
    return math.exp(-(apart[0] ** 2 + apart[1] ** 2) / 2) if max(map(abs, apart)) <= radius else 0.0


def weighted(z: float, y: float, alpha: float) -> float:
    p = 1 / (1 + math.exp(-z))
    return (alpha * y + (1 - alpha) * (1 - y)) * -(y * math.log(p) + (1 - y) * math.log(1 - p))


def slow_terms(method: ACEMethod, batch: dict[str, Tensor]) -> dict[str, float]:
    """The formulas, sample by sample and token by token, with one forward pass per network and view."""
    sums: dict[str, list[float]] = {name: [] for name in TERMS}
    for b, (down, right) in enumerate(batch["crop_offset"].tolist()):
        with torch.no_grad():
            maps = {
                who + view: network(batch[f"view_{view}"][b : b + 1])
                for who, network in (("s", method.backbone), ("t", method.teacher["backbone"]))
                for view in "12"
            }
            dense = {name: method.teacher["dense_head"](maps[name])[0] for name in ("t1", "t2")}  # (D, 4, 4)
            up = F.normalize(method.upsampling_head(method.dense_head(maps["s1"]))[0], dim=0)  # (D, 8, 8)
            whole = F.normalize(method.downsampling_head(method.dense_head(maps["s2"]))[0], dim=0)  # (D, 2, 2)
            means: dict[str, list[Tensor]] = {name: [] for name in maps}
            for row in range(4):
                for column in range(4):
                    part = (row + down, column + right)  # of the large crop, in cells
                    for i in range(8):
                        for j in range(8):
                            z = float(dense["t2"][:, row, column] @ up[:, i, j]) / 0.07
                            sums["decomposition"].append(weighted(z, gaussian(i, j, part, 8, 2), 0.99))
                    block = ((2 * row - down) // 2, (2 * column - right) // 2)  # of the small crop, in wholes
                    for i in range(2):
                        for j in range(2):
                            z = float(dense["t1"][:, row, column] @ whole[:, i, j]) / 0.07
                            sums["composition"].append(weighted(z, gaussian(i, j, block, 2, 1), 0.9))
                    for who in "st":
                        if all(0 <= place < 2 for place in block):
                            means[who + "1"].append(maps[who + "1"][0, :, row, column])
                        if all(0 <= place < 8 for place in part):
                            means[who + "2"].append(maps[who + "2"][0, :, row, column])
            scores = {
                name: (method.distillation.head if name[0] == "s" else method.distillation.teacher_head)(
                    torch.stack(tokens).mean(0, keepdim=True)
                )[0]
                for name, tokens in means.items()
            }
            for s, t in (("s1", "t2"), ("s2", "t1")):
                target = torch.softmax((scores[t] - method.distillation.center.center) / 0.04, 0)
                sums["global_consistency"].append(float(-(target * torch.log_softmax(scores[s] / 0.1, 0)).sum()))
    return {name: float(np.mean(values)) for name, values in sums.items()}


def test_terms_equal_slow_separate_formulas() -> None:
    torch.manual_seed(0)
    method, batch = moved_teacher(tiny_method()), tiny_batch(3)
    terms, slow = method(batch, START), slow_terms(method, batch)
    assert set(terms) == TERMS
    for name in TERMS:
        assert terms[name].item() == pytest.approx(slow[name], rel=1e-5, abs=1e-5), name
    swapped = slow_terms(method, {**batch, "view_1": batch["view_2"], "view_2": batch["view_1"]})
    for name in TERMS:
        assert abs(swapped[name] - slow[name]) > 2e-5, name


class Signature(nn.Module):
    """Encodes cell numbers as vectors; student and teacher vectors agree (+1) for equal numbers only."""

    def __init__(self, count: int, teacher: bool) -> None:
        super().__init__()
        self.count, self.teacher = count, teacher

    def forward(self, numbers: Tensor) -> Tensor:
        """Encode integers (B, h, w) as (B, count + 1, h, w)."""
        one_hot = F.one_hot(numbers.round().long(), self.count).movedim(-1, 1).float()
        last = torch.ones_like(one_hot[:, :1])
        return torch.cat([one_hot, last], 1) if self.teacher else torch.cat([2 * one_hot, -last], 1)


class Reads(nn.Module):
    """A head that applies a function to the numbers (B, h, w) of the tokens, then a signature."""

    def __init__(self, numbers: Callable[[Tensor], Tensor], signature: nn.Module) -> None:
        super().__init__()
        self.numbers, self.signature = numbers, signature

    def forward(self, feature_map: Tensor) -> Tensor:
        out: Tensor = self.signature(self.numbers(feature_map.mean(1)))
        return out


class ReadsMean(nn.Module):
    """Prototype head with prototypes 0, 0.5, 1, ... that selects the one nearest to the mean number."""

    def forward(self, embeddings: Tensor, frozen_prototypes: bool = False) -> Tensor:
        return -100 * (embeddings.mean(1, keepdim=True) - torch.arange(242) / 2).abs()


def parts_of(whole: Tensor) -> Tensor:
    """Numbers of the four cells of a block, from their mean, on a source of 11 x 11 numbered cells."""
    first = whole - 6
    rows = torch.stack([torch.stack([first, first + 1], -1), torch.stack([first + 11, first + 12], -1)], -2)
    return rows.permute(0, 1, 3, 2, 4).flatten(3).flatten(1, 2)  # (B, h, 2, w, 2) -> (B, 2 h, 2 w)


@pytest.fixture
def reading(cell_backbone: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> tuple[ACEMethod, dict[str, Tensor]]:
    """A method that reads cell numbers, with hard targets and views of numbered cells."""
    monkeypatch.setattr(ace, "_DECOMPOSITION_RADIUS", 0)
    monkeypatch.setattr(ace, "_COMPOSITION_RADIUS", 0)
    method = ACEMethod(
        cell_backbone(4), image_size=16, normalize_student=False, frozen_prototype_epochs=0, **SMALL_HEAD
    )
    method.dense_head = nn.Identity()  # type: ignore[assignment]
    method.teacher["dense_head"] = Reads(lambda numbers: numbers, Signature(121, teacher=True))
    method.upsampling_head = Reads(parts_of, Signature(121, teacher=False))  # type: ignore[assignment]
    method.downsampling_head = Reads(  # type: ignore[assignment]
        lambda numbers: F.avg_pool2d(numbers[:, None], 2)[:, 0], Signature(121, teacher=False)
    )
    method.distillation.head = method.distillation.teacher_head = ReadsMean()  # type: ignore[assignment]
    method.distillation.center.center = torch.zeros(242)
    views = tiny_views(source_grid=11, area=(1.0, 1.0), **UNCHANGED)
    views.normalize = lambda pixels: (121 * pixels).float()  # type: ignore[method-assign]
    numbers = torch.arange(121.0).reshape(11, 11).repeat_interleave(4, 0).repeat_interleave(4, 1) / 121
    batch = batch_of(views, [numbers[None]] * 6)
    assert (batch["crop_offset"][:, 0] != batch["crop_offset"][:, 1]).any()
    return method.eval(), batch


def test_an_encoder_that_sees_cells_gives_zero_with_the_right_wiring_alone(
    reading: tuple[ACEMethod, dict[str, Tensor]],
) -> None:
    method, batch = reading

    def terms(**changed: Tensor) -> dict[str, float]:
        return {name: term.item() for name, term in method({**batch, **changed}, START).items()}

    assert terms() == pytest.approx(dict.fromkeys(TERMS, 0.0), abs=1e-5)
    offset = batch["crop_offset"]
    wrong = {
        "swapped views": terms(view_1=batch["view_2"], view_2=batch["view_1"]),
        "transposed matching": terms(crop_offset=offset.flip(1)),
        "reversed matching": terms(crop_offset=-offset),
        "next cell": terms(crop_offset=offset + torch.tensor([0, 2])),
    }
    for name, values in wrong.items():
        assert all(value > 0.01 for value in values.values()), (name, values)
    transposed = terms(view_1=batch["view_1"].mT.contiguous())
    assert all(value > 0.01 for value in transposed.values()), transposed


def test_parts_in_another_order_do_not_match(reading: tuple[ACEMethod, dict[str, Tensor]]) -> None:
    """Exchange sub-rows and sub-columns of the up-sampled tokens."""
    method, batch = reading

    def exchanged(whole: Tensor) -> Tensor:
        parts = parts_of(whole).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, h, k, w, l)
        return parts.transpose(2, 4).flatten(3).flatten(1, 2)

    method.upsampling_head.numbers = exchanged  # type: ignore[assignment]
    assert method(batch, START)["decomposition"] > 0.01


def test_the_overlap_alone_enters_the_global_term() -> None:
    torch.manual_seed(0)
    method = moved_teacher(tiny_method(decomposition_weight=0.0, composition_weight=0.0))
    batch = tiny_batch(2)
    maps = {name: torch.randn(2, 16, 4, 4) for name in ("1", "2")}
    method.forward_together = lambda *_: (maps["1"], maps["2"])  # type: ignore[method-assign]
    before = method(batch, START)["global_consistency"]
    for b, (down, right) in enumerate(batch["crop_offset"].tolist()):
        for row in range(4):
            for column in range(4):
                if not (0 <= row + down < 8 and 0 <= column + right < 8):
                    maps["2"][b, :, row, column] = 9.0
                if not (0 <= 2 * row - down < 4 and 0 <= 2 * column - right < 4):
                    maps["1"][b, :, row, column] = 9.0
    assert (maps["1"] == 9).any()
    torch.testing.assert_close(method(batch, START)["global_consistency"], before)


def test_student_and_teacher_have_different_parts() -> None:
    torch.manual_seed(0)
    method, batch = moved_teacher(tiny_method()), tiny_batch()
    before = {name: term.item() for name, term in method(batch, START).items()}
    for network in method.teacher.values():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    after = method(batch, START)
    assert all(abs(after[name].item() - before[name]) > 1e-5 for name in TERMS)
    sum(after.values()).backward()
    assert all(p.grad is None for _, teacher in method.student_teacher_pairs() for p in teacher.parameters())


def test_crops_without_overlap_are_finite_and_only_pushed_apart() -> None:
    method = tiny_method()
    terms = method({**tiny_batch(), "crop_offset": torch.tensor([[100, 0]] * 4)}, START)
    sum(terms.values()).backward()
    assert all(torch.isfinite(term) for term in terms.values())
    gradients = [p.grad for p in method.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


# ---------------------------------------------------------------------- center, arguments


def test_the_center_moves_after_a_step_of_training_to_the_rows_of_the_overlap() -> None:
    torch.manual_seed(0)
    method, batch = tiny_method(), tiny_batch()
    seen: list[Tensor] = []
    method.distillation.teacher_head.register_forward_hook(lambda *call: seen.append(call[2]))
    method(batch, START)
    assert torch.equal(method.distillation.center.center, torch.zeros(24))
    method.after_step(START)
    assert seen[0].shape == (8, 24)  # two rows per image, none from outside the overlap
    torch.testing.assert_close(method.distillation.center.center, 0.1 * seen[0].mean(0))
    before = method.distillation.center.center.clone()
    method.eval()(batch, START)
    method.after_step(START)
    assert torch.equal(method.distillation.center.center, before)


def test_prototypes_are_frozen_in_the_first_epochs() -> None:
    method, batch = tiny_method(frozen_prototype_epochs=2), tiny_batch()
    assert method.find_unused_parameters
    for epoch, frozen in ((0, True), (1, True), (2, False)):
        method.zero_grad()
        method(batch, Progress(epoch, 4, 10 * epoch, 40))["global_consistency"].backward()
        assert (method.distillation.head.last_layer.weight_v.grad is None) == frozen
        assert method.distillation.head.mlp[0].weight.grad is not None
    assert not tiny_method().find_unused_parameters


def test_defaults_are_those_of_the_paper() -> None:
    assert tiny_method().loss_weights == {"decomposition": 0.5, "composition": 0.5, "global_consistency": 0.1}
    with torch.device("meta"):
        method = ACEMethod(SwinBackbone(norm_eps=1e-6))
    student = sum(p.numel() for name, p in method.named_parameters() if "teacher" not in name)
    assert student / 1e6 == pytest.approx(139.8, abs=0.15)  # three channels and constant lengths in the released one
    assert method.grid == (14, 14)


@pytest.mark.parametrize(
    ("weights", "heads"),
    [
        ({"global_weight": 0.0}, {"backbone", "dense_head"}),
        ({"decomposition_weight": 0.0, "composition_weight": 0.0}, {"backbone"}),
        ({"composition_weight": 0.0}, {"backbone", "dense_head"}),
    ],
)
def test_a_weight_of_zero_leaves_term_and_heads_away(weights: dict[str, float], heads: set[str]) -> None:
    method = tiny_method(**weights)
    assert set(method.teacher) == heads
    assert set(method(tiny_batch(2), START)) == TERMS - {name.removesuffix("_weight") for name in weights} - (
        {"global_consistency"} if "global_weight" in weights else set()
    )
    assert hasattr(method, "downsampling_head") == ("composition" in method.loss_weights)
    assert hasattr(method, "distillation") == ("global_consistency" in method.loss_weights)
    students = [getattr(method, name) for name in method.teacher]
    students += [method.distillation.head] if hasattr(method, "distillation") else []
    assert [student for student, _ in method.student_teacher_pairs()] == students
    method.after_step(START)


def test_unit_predictions_bound_the_logits_and_are_a_choice() -> None:
    torch.manual_seed(0)
    method, batch = moved_teacher(tiny_method()), tiny_batch()
    plain = method(batch, START)
    with torch.no_grad():
        method.upsampling_head.layer[3].weight.mul_(5.0)
        method.upsampling_head.layer[3].bias.mul_(5.0)
    torch.testing.assert_close(method(batch, START)["decomposition"], plain["decomposition"])
    method.normalize_student = False
    assert abs(method(batch, START)["decomposition"] - plain["decomposition"]) > 1e-3


def test_misfits_are_refused() -> None:
    method, batch = tiny_method(), tiny_batch()
    with pytest.raises(KeyError, match=r"batch lacks \['crop_offset'\].*RandACEViewsd makes them"):
        method({name: value for name, value in batch.items() if name != "crop_offset"}, START)
    with pytest.raises(ValueError, match=r"view_2 must be \(B, C, 16, 16\), got \(4, 1, 8, 8\)"):
        method({**batch, "view_2": batch["view_2"][:, :, :8, :8]}, START)
    with pytest.raises(ValueError, match=r"crop_offset must be \(B, 2\).* got \(3, 2\) for 4 images"):
        method({**batch, "crop_offset": batch["crop_offset"][:3]}, START)
    with pytest.raises(ValueError, match=r"multiple of scale=\(2, 2\) tokens, got \(5, 5\) .*even number of cells"):
        tiny_method(image_size=20)
    with pytest.raises(ValueError, match=r"temperatures must be positive, got temperature=0"):
        tiny_method(temperature=0)
    volume = SwinBackbone(spatial_dims=3, embed_dim=8, depths=(1, 1), num_heads=(1, 2), patch_size=4)
    with pytest.raises(ValueError, match=r"backbone must be 2D, got spatial_dims=3; .*PEACMethod and POPARMethod"):
        ACEMethod(volume, image_size=32)


# ---------------------------------------------------------------------- any backbone


@pytest.mark.parametrize(
    "backbone",
    [
        lambda: ViTBackbone(image_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2),
        lambda: ResNetBackbone(depth=18),
    ],
    ids=["vit", "resnet"],
)
def test_any_backbone_trains(backbone: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    network = backbone()
    cell = network.strides[-1]
    method = ACEMethod(network, image_size=4 * cell, frozen_prototype_epochs=0, **SMALL_HEAD).eval()
    batch = batch_of(tiny_views(cell_size=cell), [image_of(1, 90, 90, seed=seed) for seed in range(2)])

    optimizer = torch.optim.AdamW(method.param_groups(0.0), lr=1e-5)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = torch.stack([method.loss_weights[name] * term for name, term in method(batch, START).items()]).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]
