"""DiRA: target of a view, separate gradients of both players, and export of encoder and decoder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.data import SeededDataset, resumable_loader
from monai_anat.engines import SSLTrainer, build_optimizers
from monai_anat.handlers import TeacherEMA
from monai_anat.methods import BarlowTwinsMethod, DiRAMethod, RandDiRAViewsd, SimSiamMethod
from monai_anat.networks import BackboneUNet, ResNetBackbone, SwinBackbone, ViTBackbone
from monai_anat.schedules import ConstantSchedule, CosineSchedule, Progress
from monai_anat.transforms import RandAppearance, RandCutSwap

DIR = Progress(0, 2, 0, 2, stage=0, stage_step=0, stage_steps=1)
DIRA = Progress(1, 2, 1, 2, stage=1, stage_step=0, stage_steps=1)
PLAIN = {"discrimination", "restoration"}
GAME = {"adversarial", "discriminator"}


def tiny_backbone() -> SwinBackbone:
    return SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)


def tiny_method(**options: Any) -> DiRAMethod:
    small = {"embedding_dim": 16, "queue_size": 32, "decoder_channels": (16, 8), "discriminator_channels": 4}
    return DiRAMethod(tiny_backbone(), **{**small, "norm": "instance", **options})


def resnet_method(**options: Any) -> DiRAMethod:
    small = {"embedding_dim": 16, "queue_size": 32, "decoder_channels": (32, 16, 16, 8, 8)}
    return DiRAMethod(ResNetBackbone(depth=18), discriminator_channels=4, **{**small, **options})


def image(seed: int) -> np.ndarray:
    """A coarse pattern per image, so that images differ clearly."""
    coarse = np.random.RandomState(seed).randint(0, 256, (1, 6, 5))
    return coarse.repeat(8, 1).repeat(9, 2).astype(np.uint8)


def batch_of(views: RandDiRAViewsd, count: int = 4, first: int = 0) -> dict[str, Tensor]:
    samples = [views.set_random_state(first + s)({"image": image(first + s)}) for s in range(count)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


@torch.no_grad()
def spread(method: DiRAMethod, image_size: int = 32) -> DiRAMethod:
    """Scale embeddings to all directions, and fill the queue with those of the first eight images.

    Those of a random network are short and point one way. And where the contract suite takes twenty steps on one batch,
    its keys fill the queue: only from there on does the loss fall.
    """
    view = batch_of(RandDiRAViewsd(image_size=image_size), 8)["view_2"]
    embeddings = method.eval().discrimination.projection(method.network.backbone(view).mean((2, 3)))
    centered = embeddings - embeddings.mean(0)
    for projection in (method.discrimination.projection, method.discrimination.teacher_projection):
        projection[-1].bias -= embeddings.mean(0)
        for parameter in projection[-1].parameters():
            parameter /= centered.norm(dim=1).mean()
    method.discrimination.queue.keys.copy_(F.normalize(centered, dim=1))
    return method.train()


def case(build: Callable[..., DiRAMethod] = tiny_method, image_size: int = 32, **changed: Any) -> SimpleNamespace:
    options = {name: changed.pop(name) for name in ("adversarial_stage", "criterion") if name in changed}
    return SimpleNamespace(
        method=lambda: spread(build(queue_size=8, **options), image_size),
        views=lambda: RandDiRAViewsd(image_size=image_size),
        image=image,
        **changed,
    )


def siamese_case(part: str) -> SimpleNamespace:
    return SimpleNamespace(
        method=lambda: tiny_method(discriminative=part, adversarial_stage=0),
        views=lambda: RandDiRAViewsd(image_size=32),
        image=image,
        keeps_batch=False,  # batch normalization of the heads
        teacher=False,
    )


#: used by the contract tests
CASE = case(adversarial_stage=0)
MORE_CASES = {
    "dir": case(phase=0),
    "dira": case(phase=1),
    "bce": case(adversarial_stage=0, criterion="bce"),
    "simsiam": siamese_case("simsiam"),
    "barlow_twins": siamese_case("barlow_twins"),
    # batch normalization of encoder and decoder uses the images of one process
    "resnet": case(resnet_method, 64, adversarial_stage=0, joint_batch=False, base_lr=1e-3),
}


def moved_teacher(method: DiRAMethod) -> DiRAMethod:
    with torch.no_grad():
        for parameter in (p for _, teacher in method.student_teacher_pairs() for p in teacher.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return method


# ---------------------------------------------------------------------- views


def still_views(**options: Any) -> RandDiRAViewsd:
    appearance = RandAppearance(jitter_prob=0.0, blur_prob=0.0)
    nothing = RandCutSwap(cut_prob=0.0, keep_prob=0.0, swap_prob=0.0)
    return RandDiRAViewsd(image_size=32, appearance=appearance, distorter=nothing, **options)


def test_without_distortion_the_target_is_the_view_for_every_flip() -> None:
    """With an asymmetric ramp, the target of a view that is flipped alone would be its mirror image."""
    ramp = (torch.arange(60.0).expand(1, 50, 60) / 59).contiguous()
    views, flips = still_views(), set()
    for seed in range(40):
        sample = views.set_random_state(seed)({"image": ramp})
        assert torch.equal(sample["view_1"], sample["target"])
        flipped = views.draws[0].flipped
        flips.add(flipped)
        slope = sample["target"][0, :, -1] - sample["target"][0, :, 0]
        assert (slope < 0).all() if flipped else (slope > 0).all()
    assert flips == {True, False}


def test_the_anatomy_preset_never_flips_and_the_published_one_in_half_of_the_draws() -> None:
    published, anatomy = still_views().set_random_state(0), still_views(flip_prob=0.0).set_random_state(0)
    counts = []
    for views in (published, anatomy):
        flipped = 0
        for _ in range(1000):
            views.randomize((40, 40))
            flipped += views.draws[0].flipped
        counts.append(flipped)
    assert 450 < counts[0] < 550 and counts[1] == 0


def test_the_target_is_the_clean_crop_in_gray_levels_whatever_the_views_undergo() -> None:
    views = RandDiRAViewsd(image_size=32, mean=0.5, std=0.25)
    kinds = set()
    for seed in range(40):
        pixels = torch.from_numpy(image(seed)) / 255
        sample = views.set_random_state(seed)({"image": image(seed)})
        first, _ = views.draws
        kinds.add((first.distortion.cut is not None, first.distortion.swap is not None))
        row, column = first.box[0]
        height, width = first.box[1]
        crop = F.interpolate(
            pixels[None, :, row : row + height, column : column + width], (32, 32), mode="bilinear", antialias=True
        )[0]
        torch.testing.assert_close(sample["target"], crop.flip(2) if first.flipped else crop)
        assert sample["target"].min() >= 0 and sample["target"].max() <= 1
        assert not torch.equal(sample["view_2"], sample["view_1"])
    assert kinds == {(True, False), (False, True), (False, False)}


def test_both_views_are_distorted_a_third_of_them_not() -> None:
    views = RandDiRAViewsd(image_size=224).set_random_state(0)
    nothing = np.zeros(2)
    for _ in range(1000):
        views.randomize((224, 224))
        nothing += [draw.distortion.cut is None and draw.distortion.swap is None for draw in views.draws]
    assert nothing / 1000 == pytest.approx([0.35, 0.35], abs=0.05)


def test_a_volume_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image must be \(C, H, W\).*RandDiRAViewsd is 2D only"):
        RandDiRAViewsd(image_size=8)({"image": torch.rand(1, 9, 9, 9)})
    volume = SwinBackbone(spatial_dims=3, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, patch_size=2)
    with pytest.raises(ValueError, match=r"spatial_dims=2, got 3; DiRA is for images"):
        DiRAMethod(volume, queue_size=8)


# ---------------------------------------------------------------------- wiring


def slow_terms(method: DiRAMethod, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The formulas, one image at a time."""
    contrast, squares, fooled, told = [], [], [], []
    for b in range(len(batch["target"])):
        view_1, view_2, target = (batch[name][b : b + 1] for name in ("view_1", "view_2", "target"))
        restored = torch.sigmoid(method.network(view_1))
        query = F.normalize(method.discrimination.projection(method.network.backbone(view_1).mean((2, 3))))
        key = F.normalize(method.discrimination.teacher_projection(method.teacher["backbone"](view_2).mean((2, 3))))
        logits = torch.cat([(query * key).sum(1, keepdim=True), query @ method.discrimination.queue.keys.T], 1) / 0.2
        contrast.append(-torch.log_softmax(logits, 1)[0, 0])
        squares.append((restored - target).square().mean())
        scores = [method.discriminator(x)[-1] for x in (restored, target)]
        fooled.append((scores[0] - 1).square().mean())
        told.append(((scores[1] - 1).square().mean() + scores[0].square().mean()) / 2)
    named = {"discrimination": contrast, "restoration": squares, "adversarial": fooled, "discriminator": told}
    return {name: torch.stack(values).mean() for name, values in named.items()}


def test_terms_equal_slow_separate_formulas() -> None:
    torch.manual_seed(0)
    method, batch = moved_teacher(tiny_method()).eval(), batch_of(RandDiRAViewsd(image_size=32))
    with torch.no_grad():  # scores that differ between images
        for parameter in method.discriminator.parameters():
            parameter.mul_(10)
    terms, slow = method(batch, DIRA), slow_terms(method, batch)
    assert set(terms) == PLAIN | GAME
    for name in terms:
        torch.testing.assert_close(terms[name], slow[name], rtol=1e-5, atol=1e-5, msg=name)
    swapped = slow_terms(method, {**batch, "view_1": batch["view_2"], "view_2": batch["view_1"]})
    for name in terms:
        assert abs(swapped[name] - slow[name]) > 1e-5, name
    exchanged = slow_terms(method, {**batch, "target": batch["view_1"]})
    assert abs(exchanged["restoration"] - slow["restoration"]) > 1e-5


class Returns(nn.Module):
    """A decoder that returns the given image."""

    def __init__(self, pixels: Tensor) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, stages: list[Tensor], skips: int) -> Tensor:
        return torch.logit(self.pixels, eps=1e-6)


def test_a_decoder_that_knows_the_clean_crop_has_no_error_and_its_mirror_image_has() -> None:
    method, batch = tiny_method(), batch_of(RandDiRAViewsd(image_size=32))
    method.network.head = nn.Identity()
    for pixels, small in ((batch["target"], True), (batch["target"].flip(3), False), (batch["view_2"], False)):
        method.network.decoder = Returns(pixels)
        error = method(batch, DIR)["restoration"].item()
        assert error < 1e-8 if small else error > 1e-2


def test_the_published_weights_and_sizes() -> None:
    method = tiny_method()
    expected = {"discrimination": 1.0, "restoration": 10.0, "adversarial": 0.001, "discriminator": 1.0}
    assert method.loss_weights == expected
    with torch.device("meta"):
        published = DiRAMethod(ResNetBackbone(depth=50))
    count = sum(p.numel() for p in published.discriminator.parameters())
    assert (published.discrimination.queue.keys.shape, published.discrimination.temperature, count) == (
        (65536, 128),
        0.2,
        1_553_537,
    )
    scores = published.discriminator(torch.zeros(1, 1, 224, 224, device="meta"))[-1]
    assert scores.shape == (1, 1, 28, 28)


# ---------------------------------------------------------------------- the game


def test_each_term_moves_its_own_player_only() -> None:
    method, batch = tiny_method(), batch_of(RandDiRAViewsd(image_size=32))
    generator = [*method.network.parameters(), *method.discrimination.projection.parameters()]
    for name in PLAIN | GAME:
        method.zero_grad()
        method(batch, DIRA)[name].backward()
        moved = [p.grad is not None for p in method.discriminator.parameters()]
        assert all(moved) if name == "discriminator" else not any(moved), name
        assert any(p.grad is not None for p in generator) == (name != "discriminator"), name
    assert all(p.grad is None for _, teacher in method.student_teacher_pairs() for p in teacher.parameters())


def alternating_update(method: DiRAMethod, batch: dict[str, Tensor], optimizers: dict[str, Any]) -> None:
    """The published steps: first the U-Net, then the discriminator on the same restoration."""
    weights = method.loss_weights
    restored = torch.sigmoid(method.network(batch["view_1"]))
    loss = weights["discrimination"] * method._discrimination(method.network.backbone(batch["view_1"]), batch["view_2"])
    loss = loss + weights["restoration"] * F.mse_loss(restored, batch["target"])
    loss = loss + weights["adversarial"] * (method.discriminator(restored)[-1] - 1).square().mean()
    optimizers["main"].zero_grad()
    loss.backward()
    optimizers["main"].step()
    optimizers["adversary"].zero_grad()  # the generator's backward pass filled these
    real, restorations = method.discriminator(batch["target"])[-1], method.discriminator(restored.detach())[-1]
    (((real - 1).square().mean() + restorations.square().mean()) / 2).backward()
    optimizers["adversary"].step()
    method.after_step(DIRA)


def optimizers_of(method: DiRAMethod) -> dict[str, Any]:
    others = {"adversary": {"name": "adam", "lr": 0.01, "betas": (0.5, 0.999)}}
    return build_optimizers(method, "sgd", lr=0.1, weight_decay=1e-4, others=others)


def test_one_backward_pass_is_the_published_alternating_update() -> None:
    torch.manual_seed(0)
    ours = tiny_method(adversarial_weight=0.5, adversarial_stage=0)
    theirs, start = copy.deepcopy(ours), copy.deepcopy(ours)
    batches = [batch_of(RandDiRAViewsd(image_size=32), first=4 * step) for step in range(3)]
    trainer = SSLTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=batches,
        method=ours,
        optimizers=optimizers_of(ours),
        precision="fp32",
        clip_norm=None,
    )
    trainer.run()
    optimizers = optimizers_of(theirs)
    for batch in batches:
        alternating_update(theirs, batch, optimizers)
    for (name, one), two, before in zip(
        ours.state_dict().items(), theirs.state_dict().values(), start.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5, msg=name)
        if name.startswith(("network.", "discriminator.")) and one.is_floating_point() and one.ndim > 1:
            assert not torch.equal(one, before), name


def test_the_adversary_rests_in_the_first_stage_and_plays_in_the_second() -> None:
    method = tiny_method()
    assert method.find_unused_parameters
    batches = [batch_of(RandDiRAViewsd(image_size=32), first=4 * step) for step in range(2)]
    trainer = SSLTrainer(
        device="cpu",
        max_epochs=2,
        stage_epochs=(1, 1),
        train_data_loader=batches,
        method=method,
        optimizers=optimizers_of(method),
        schedules={"lr": ConstantSchedule(0.1), "adversary.lr": ConstantSchedule(0.01)},
        precision="fp32",
        train_handlers=[TeacherEMA(0.9)],
    )
    weight = next(iter(method.discriminator.parameters()))
    seen: list[tuple[set[str], bool]] = []
    before = weight.detach().clone()
    step = trainer._iteration

    def recorded(engine: Any, batch: Any) -> Any:
        output = step(engine, batch)
        seen.append((set(output[0]) - {"loss"}, torch.equal(weight, before)))
        return output

    trainer._process_function = recorded
    trainer.run()
    assert [terms for terms, _ in seen] == [PLAIN, PLAIN, PLAIN | GAME, PLAIN | GAME]
    assert [rests for _, rests in seen] == [True, True, False, False]


def resumable_trainer() -> SSLTrainer:
    torch.manual_seed(0)
    method = tiny_method()
    dataset = SeededDataset([{"image": image(seed)} for seed in range(9)], RandDiRAViewsd(image_size=16), seed=3)
    return SSLTrainer(
        device="cpu",
        max_epochs=4,
        stage_epochs=(2, 2),
        train_data_loader=resumable_loader(dataset, batch_size=4, seed=3),
        method=method,
        optimizers=optimizers_of(method),
        schedules={"lr": CosineSchedule(0.1, per_stage=True), "adversary.lr": ConstantSchedule(0.01)},
        seed=3,
        precision="fp32",
        train_handlers=[TeacherEMA(0.9)],
    )


@pytest.mark.parametrize("cut", [3, 4, 5])
def test_a_run_cut_before_at_or_after_the_change_of_stage_equals_the_straight_one(
    cut: int, resumes_exactly: Callable[..., None]
) -> None:
    resumes_exactly(resumable_trainer, cut, 8)


def test_without_adversary_there_is_no_discriminator() -> None:
    method, batch = tiny_method(adversarial_weight=0.0), batch_of(RandDiRAViewsd(image_size=32))
    assert not hasattr(method, "discriminator")
    assert not method.find_unused_parameters
    assert set(method(batch, DIRA)) == set(method.loss_weights) == PLAIN
    assert {group["optimizer"] for group in method.param_groups(0.1)} == {"main"}


def test_the_adversary_has_groups_of_its_own_without_decay() -> None:
    method = tiny_method()
    apart = [group for group in method.param_groups(0.1) if group["optimizer"] == "adversary"]
    assert {id(p) for group in apart for p in group["params"]} == {id(p) for p in method.discriminator.parameters()}
    assert {(group["weight_decay"], group["decayed"]) for group in apart} == {(0.0, False)}
    assert {group["weight_decay"] for group in method.param_groups(0.1) if group not in apart} == {0.1, 0.0}


def test_the_logarithmic_game_is_a_choice() -> None:
    torch.manual_seed(0)
    method, batch = tiny_method(criterion="bce").eval(), batch_of(RandDiRAViewsd(image_size=32))
    scores = method.discriminator(torch.sigmoid(method.network(batch["view_1"])))[-1]
    terms = method(batch, DIRA)
    torch.testing.assert_close(terms["adversarial"], -F.logsigmoid(scores).mean())
    real = method.discriminator(batch["target"])[-1]
    torch.testing.assert_close(terms["discriminator"], -(F.logsigmoid(real).mean() + F.logsigmoid(-scores).mean()) / 2)


# ---------------------------------------------------------------------- transfer, backbones, misfits


def test_encoder_and_decoder_load_strictly_into_a_network_for_segmentation() -> None:
    method = resnet_method()
    kept = method.export_networks()
    network = BackboneUNet(ResNetBackbone(depth=18), out_channels=3, decoder_channels=(32, 16, 16, 8, 8))
    network.backbone.load_state_dict(kept["encoder"].state_dict(), strict=True)
    network.decoder.load_state_dict(kept["decoder"].state_dict(), strict=True)
    x = torch.rand(1, 1, 64, 64)
    features = [n.eval().decoder(n.encode(x), 4) for n in (network, method.network)]
    assert torch.equal(*features)


@pytest.mark.parametrize("build", [tiny_method, resnet_method])
def test_the_loss_of_a_batch_falls_with_any_pyramid(build: Callable[..., DiRAMethod]) -> None:
    torch.manual_seed(0)
    method, batch = build(adversarial_stage=0).eval(), batch_of(RandDiRAViewsd(image_size=32))
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=1e-3)

    def loss() -> Tensor:
        return sum(method.loss_weights[name] * term for name, term in method(batch, DIRA).items())

    before = loss()
    before.backward()
    optimizer.step()
    assert loss() < before


def test_misfits_are_refused() -> None:
    method, batch = resnet_method(), batch_of(RandDiRAViewsd(image_size=48))
    with pytest.raises(ValueError, match=r"multiples of 32, the last stride of the backbone, got \[48, 48\]"):
        method(batch, DIR)
    with pytest.raises(ValueError, match=r"restored and target must have the same shape"):
        tiny_method()({**batch, "target": batch["target"][:, :, :32]}, DIR)
    with pytest.raises(KeyError, match=r"batch lacks \['target'\].*RandDiRAViewsd makes them"):
        method({"view_1": batch["view_1"], "view_2": batch["view_2"]}, DIR)
    with pytest.raises(ValueError, match=r"got ViTBackbone with strides"):
        DiRAMethod(ViTBackbone(image_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=3))
    with pytest.raises(ValueError, match=r"must be positive, got 1.0 and 0; contrast alone is MoCoV2Method"):
        tiny_method(restoration_weight=0)
    with pytest.raises(ValueError, match=r"adversarial_stage must be at least 0"):
        tiny_method(adversarial_stage=-1)
    with pytest.raises(ValueError, match=r'criterion must be "least_squares" or "bce", got \'hinge\''):
        tiny_method(criterion="hinge")


# ---------------------------------------------------------------------- other discriminative parts


@pytest.mark.parametrize("part", ["simsiam", "barlow_twins"])
def test_the_discriminative_part_may_be_that_of_another_method(part: str) -> None:
    torch.manual_seed(0)
    method, batch = tiny_method(discriminative=part), batch_of(RandDiRAViewsd(image_size=32))
    if part == "simsiam":
        alone: Any = SimSiamMethod(method.network.backbone, embedding_dim=16, hidden_dim=4)
        alone.similarity = method.discrimination
    else:
        alone = BarlowTwinsMethod(method.network.backbone, embedding_dim=16)
        alone.correlation = method.discrimination
    expected = sum(alone.loss_weights[name] * term for name, term in alone(batch, DIR).items())
    terms = method(batch, DIR)
    assert set(terms) == PLAIN
    torch.testing.assert_close(terms["discrimination"], expected)
    assert method.student_teacher_pairs() == []
    assert not any(name.startswith(("teacher", "queue")) for name in method.state_dict())
    method.after_step(DIR)


def test_the_predictor_of_simsiam_keeps_its_learning_rate_and_the_adversary_its_optimizer() -> None:
    groups = {group["name"]: group for group in tiny_method(discriminative="simsiam").param_groups(0.1)}
    assert groups["predictor_decayed"]["scheduled"] is False
    assert {group["optimizer"] for name, group in groups.items() if name.startswith("adversary")} == {"adversary"}
    assert "scheduled" not in groups["decayed"]


def test_the_published_widths_and_what_does_not_fit() -> None:
    with torch.device("meta"):
        widths = {part: tiny_method(discriminative=part, embedding_dim=None) for part in ("simsiam", "barlow_twins")}
    assert widths["simsiam"].discrimination.projection[0].out_features == 2048
    assert widths["simsiam"].discrimination.predictor[0].out_features == 512
    assert widths["barlow_twins"].discrimination.projector[0].out_features == 8192
    with pytest.raises(ValueError, match=r"discriminative must be one of .*got 'byol'"):
        tiny_method(discriminative="byol")
    one = batch_of(RandDiRAViewsd(image_size=32), 1)
    with pytest.raises(ValueError, match="at least 2 images"):
        tiny_method(discriminative="simsiam")(one, DIR)
