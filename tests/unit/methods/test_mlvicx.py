"""MLVICX: asymmetric pair of views, and wiring of the three terms at two levels."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import FlexibleUNet
from torch import Tensor, nn

from monai_anat.methods import MLVICXMethod, RandMLVICXViewsd
from monai_anat.networks import (
    GatedBackbone,
    ResNetBackbone,
    SwinBackbone,
    ViTBackbone,
    as_backbone,
    load_encoder,
    save_encoder,
)
from monai_anat.schedules import Progress

START = Progress(0, 1, 0, 1)
TERMS = {f"{level}_{term}" for level in ("global", "local") for term in ("invariance", "variance", "covariance")}
SMALL = {"global_dim": 24, "local_dim": 20, "fused_channels": 8, "fused_size": 8, "pooled_size": 2}


def tiny_method(**options: Any) -> MLVICXMethod:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    return MLVICXMethod(backbone, **{**SMALL, **options})


#: used by the contract tests
CASE = SimpleNamespace(
    method=tiny_method,
    views=lambda: RandMLVICXViewsd(image_size=16),
    # embeddings of coarse patterns differ; batch normalization of nearly equal ones is mostly rounding
    image=lambda seed: np.kron(np.random.RandomState(seed).randint(0, 256, (1, 3, 3)), np.ones((8, 7))).astype(
        np.uint8
    ),
    keeps_batch=False,  # variance and covariance are statistics of the batch
    # batch normalization removes what is constant over the batch
    without_gradient=(
        *(f"global_head.{layer}.bias" for layer in (0, 3, 6)),
        *(f"local_head.expander.{layer}.bias" for layer in (0, 3, 6)),
        *(f"local_head.projections.{stage}.bias" for stage in (0, 1)),
    ),
)


def batch_of(size: int = 6, side: int = 16) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(size, 1, side, side, generator=generator) for name in ("view_1", "view_2")}


# ---------------------------------------------------------------------- views


def test_the_published_views() -> None:
    views = RandMLVICXViewsd(image_size=8)
    image = np.random.RandomState(0).random_sample((1, 40, 40)).astype(np.float32)
    shares, first, second = [], [], []
    views.set_random_state(0)
    for _ in range(300):
        sample = views({"image": image})
        assert sample["view_1"].shape == sample["view_2"].shape == (1, 8, 8)
        first.append(views.draws[0])
        second.append(views.draws[1])
        shares += [draw.box[1].prod() / 1600 for draw in views.draws]
    assert min(shares) < 0.12
    assert max(shares) > 0.95
    for draws in (first, second):
        assert np.mean([draw.flipped for draw in draws]) == pytest.approx(0.5, abs=0.1)
        assert np.mean([draw.appearance.brightness != 1 for draw in draws]) == pytest.approx(0.8, abs=0.1)
    assert all(0.1 <= draw.appearance.blur_sigma <= 2 for draw in first)
    assert not any(draw.appearance.solarized for draw in first)
    assert np.mean([draw.appearance.blur_sigma > 0 for draw in second]) == pytest.approx(0.1, abs=0.05)
    assert np.mean([draw.appearance.solarized for draw in second]) == pytest.approx(0.2, abs=0.07)


def test_the_anatomy_preset_never_flips_and_shows_more() -> None:
    views = RandMLVICXViewsd(image_size=8, preset="anatomy").set_random_state(0)
    for _ in range(50):
        views({"image": np.zeros((1, 40, 40), np.uint8)})
        for draw in views.draws:
            assert not draw.flipped
            assert draw.box[1].prod() / 1600 > 0.37  # whole pixels
    single = RandMLVICXViewsd(preset="anatomy", flip_prob=1.0, area=(0.1, 0.2))
    assert (single.flip_prob, single.area) == (1.0, (0.1, 0.2))
    sharp = RandMLVICXViewsd(image_size=8, blur_sigma=(0.1, 0.2)).set_random_state(0)
    sharp({"image": np.zeros((1, 40, 40), np.uint8)})
    assert 0.1 <= sharp.draws[0].appearance.blur_sigma <= 0.2


def test_views_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"preset must be one of 'published', 'anatomy', got 'natural'"):
        RandMLVICXViewsd(preset="natural")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"\(C, H, W\), got \(1, 8, 8, 8\); RandMLVICXViewsd is 2D only, RandPEACViewsd"
    ):
        RandMLVICXViewsd(image_size=8)({"image": np.zeros((1, 8, 8, 8), np.uint8)})


# ---------------------------------------------------------------------- wiring


def slow_vicreg(z_1: Tensor, z_2: Tensor) -> dict[str, Tensor]:
    """The three terms by the full covariance matrix, in double precision."""
    z_1, z_2 = z_1.double(), z_2.double()
    terms = {"invariance": (z_1 - z_2).square().sum() / z_1.numel()}
    spreads = [(z.var(0) + 1e-4).sqrt() for z in (z_1, z_2)]
    terms["variance"] = 0.5 * sum((1 - s).clamp(min=0).mean() for s in spreads)
    matrices = [torch.cov(z.T) for z in (z_1, z_2)]
    terms["covariance"] = sum((m - m.diag().diag()).square().sum() / len(m) for m in matrices)
    return terms


def stages(gated: GatedBackbone, image: Tensor) -> list[Tensor]:
    """The maps of all stages before their gates."""
    maps, inputs = [], [image]
    for stage, gate in enumerate(gated.gates):
        outputs = gated.backbone.forward_stage(stage, inputs)
        maps.append(outputs[0])
        inputs = [gate(outputs[0]), *outputs[1:]]
    return maps


def slow_terms(method: MLVICXMethod, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The formulas: backbone image by image, fusion after projection, heads view by view."""
    gated = method.backbone
    embeddings: dict[str, list[Tensor]] = {"global": [], "local": []}
    for name in ("view_1", "view_2"):
        images = [stages(gated, image[None]) for image in batch[name]]
        maps = [torch.cat(maps) for maps in zip(*images, strict=True)]
        maps[-1] = gated.gates[-1](maps[-1])
        embeddings["global"].append(method.global_head(maps[-1].mean((2, 3))))
        head = method.local_head
        fused = sum(
            projection(F.interpolate(m, (8, 8), mode="bilinear", align_corners=False))
            for projection, m in zip(head.projections, maps, strict=True)
        )
        embeddings["local"].append(head.expander(F.avg_pool2d(fused, 4).flatten(1)))
    return {
        f"{level}_{term}": value for level, pair in embeddings.items() for term, value in slow_vicreg(*pair).items()
    }


def test_terms_equal_slow_separate_formulas() -> None:
    torch.manual_seed(0)
    method, batch = tiny_method(), batch_of()
    with torch.no_grad():
        terms, slow = method(batch, START), slow_terms(method, batch)
    assert set(terms) == TERMS == set(slow)
    for name in TERMS:
        torch.testing.assert_close(terms[name].double(), slow[name], rtol=1e-5, atol=1e-5, msg=name)
    weighted = sum(method.loss_weights[name] * term for name, term in terms.items())
    by_formula = sum({"in": 25, "va": 25, "co": 1}[name.split("_")[1][:2]] * term for name, term in slow.items())
    torch.testing.assert_close(weighted.double(), by_formula, rtol=1e-5, atol=1e-5)
    # and a wrong wiring not: one view twice, the pairs of another order, the level exchanged
    one_view = slow_terms(method, {**batch, "view_2": batch["view_1"]})
    mixed = slow_terms(method, {**batch, "view_2": batch["view_2"].roll(1, 0)})
    for level in ("global", "local"):
        assert one_view[f"{level}_invariance"] < 1e-9
        assert abs(mixed[f"{level}_invariance"] - slow[f"{level}_invariance"]) > 1e-3
    assert abs(slow["global_covariance"] - slow["local_covariance"]) > 1e-3


def test_the_two_views_may_be_exchanged() -> None:
    torch.manual_seed(0)
    method, batch = tiny_method(), batch_of()
    there = method(batch, START)
    back = method({"view_1": batch["view_2"], "view_2": batch["view_1"]}, START)
    for name in TERMS:
        torch.testing.assert_close(there[name], back[name], msg=name)


class Flat(nn.Module):
    """A local head that returns the maps."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        return torch.cat([m.flatten(1) for m in maps], 1)


def test_an_encoder_that_sees_cells_gives_zero_only_for_pairs_of_equal_images(
    cell_backbone: Callable[..., Any],
) -> None:
    method = MLVICXMethod(cell_backbone(4), gates=False, **SMALL)
    method.global_head, method.local_head = nn.Identity(), Flat()
    view = batch_of()["view_1"]

    def invariances(view_2: Tensor) -> list[float]:
        terms = method({"view_1": view, "view_2": view_2}, START)
        return [terms[f"{level}_invariance"].item() for level in ("global", "local")]

    assert invariances(view) == [0.0, 0.0]
    assert min(invariances(view.roll(1, 0))) > 0.01
    moved = invariances(view.roll(4, 3))  # the same cells at other places: only the local level sees where
    assert moved[0] == pytest.approx(0.0, abs=1e-10)
    assert moved[1] > 0.1


@pytest.mark.parametrize("training", [False, True])
def test_batch_normalization_sees_each_view_alone(training: bool) -> None:
    torch.manual_seed(0)
    method, batch = MLVICXMethod(ResNetBackbone(depth=18), **SMALL).train(training), batch_of(4, 64)
    with torch.no_grad():
        maps_1, maps_2 = method._maps(batch["view_1"], batch["view_2"])
        for maps, name in ((maps_1, "view_1"), (maps_2, "view_2")):
            expected = method.backbone.forward_features(batch[name])
            assert len(maps) == len(expected) == 5
            for got, want in zip(maps, expected, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of torch.compile's own
def test_compiled_networks_give_the_same_terms() -> None:
    torch.manual_seed(0)
    method, batch = tiny_method(), batch_of()
    expected = method(batch, START)
    method.compile_networks(backend="eager")
    for name, term in method(batch, START).items():
        torch.testing.assert_close(term, expected[name], msg=name)


# ---------------------------------------------------------------------- arguments


def test_the_published_network_and_weights() -> None:
    with torch.device("meta"):
        method = MLVICXMethod(ResNetBackbone(depth=18, in_channels=3))
    assert sum(p.numel() for p in method.parameters()) == 114_890_282  # 114.9 million
    assert method.local_head.expander[0].in_features == 8192
    assert [projection.in_channels for projection in method.local_head.projections] == [64, 64, 128, 256, 512]
    assert method.loss_weights == {name: 1.0 if "covariance" in name else 25.0 for name in TERMS}


def test_weights_leave_terms_and_heads_away() -> None:
    method = tiny_method(local_weight=0.0)
    assert not hasattr(method, "local_head")
    assert set(method(batch_of(), START)) == {name for name in TERMS if name.startswith("global")}
    method = tiny_method(covariance_weight=0.0, local_weight=0.5)
    assert set(method(batch_of(), START)) == TERMS - {"global_covariance", "local_covariance"}
    assert method.loss_weights["local_invariance"] == 12.5


def test_gates_are_kept_with_the_encoder_or_left_away(tmp_path: Any) -> None:
    torch.manual_seed(0)
    method, batch = tiny_method().eval(), batch_of()
    encoder = method.export_networks()["encoder"]
    assert isinstance(encoder, GatedBackbone)
    save_encoder(encoder, tmp_path, image_size=16, mean=0.5, std=0.25)
    again = load_encoder(tmp_path)
    with torch.no_grad():
        for got, expected in zip(
            again.forward_features(batch["view_1"]), method._maps(batch["view_1"], batch["view_2"])[0], strict=True
        ):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    assert isinstance(tiny_method(gates=False).export_networks()["encoder"], SwinBackbone)
    assert MLVICXMethod(again, **SMALL).backbone is again
    with pytest.raises(ValueError, match=r"gates=False needs a backbone without gates"):
        MLVICXMethod(again, gates=False, **SMALL)


def test_misfits_are_refused() -> None:
    method, batch = tiny_method(), batch_of()
    one = {name: view[:1] for name, view in batch.items()}
    with pytest.raises(ValueError, match=r"at least 2 images.*got 1; set batch_size"):
        method(one, START)
    with pytest.raises(ValueError, match=r"view_1 and view_2 must have one shape"):
        method({**batch, "view_2": batch["view_2"][:, :, :8]}, START)
    with pytest.raises(ValueError, match=r"2D only, got a backbone with spatial_dims=3; PEACMethod"):
        MLVICXMethod(ResNetBackbone(depth=18, spatial_dims=3))
    with pytest.raises(ValueError, match="one must be positive"):
        tiny_method(invariance_weight=0.0, variance_weight=0.0, covariance_weight=0.0)
    monai_network = as_backbone(FlexibleUNet(1, 2, backbone="resnet18", spatial_dims=2, pretrained=False))
    with pytest.raises(TypeError, match=r"AdaptedBackbone; set gates=False to train a backbone without gates"):
        MLVICXMethod(monai_network)
    assert set(MLVICXMethod(monai_network, gates=False, **SMALL)(batch_of(2, 64), START)) == TERMS


@pytest.mark.parametrize(
    "backbone",
    [
        lambda: ResNetBackbone(depth=18),
        lambda: ResNetBackbone(depth=50),
        lambda: ViTBackbone(image_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=2, class_token=True),
        lambda: SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, patch_size=4),
    ],
    ids=["resnet18", "resnet50", "vit", "swin"],
)
def test_any_backbone_learns_through_every_parameter(backbone: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    method, batch = MLVICXMethod(backbone(), **SMALL), batch_of(4, 32)
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=1e-3)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        terms = method(batch, START)
        loss = sum(method.loss_weights[name] * term for name, term in terms.items())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
    assert [name for name, p in method.named_parameters() if p.grad is None] == []
    grouped = {id(p) for group in method.param_groups(0.0) for p in group["params"]}
    assert {id(p) for p in method.local_head.projections.parameters()} <= grouped
