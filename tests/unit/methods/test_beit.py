"""BEiT: words of a frozen tokenizer, hidden patches, and the two stages of one run."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import list_data_collate
from monai.networks.nets import VQVAE
from torch import Tensor, nn

from monai_anat.data import SeededDataset, resumable_loader
from monai_anat.engines import SSLTrainer, build_optimizers
from monai_anat.methods import BEiTMethod, RandBEiTViewsd
from monai_anat.networks import SwinBackbone, VisualTokenizer, ViTBackbone
from monai_anat.schedules import ConstantSchedule, CosineSchedule, Progress

TOKENIZE = Progress(0, 2, 0, 2, stage=0, stage_step=0, stage_steps=1)
PREDICT = Progress(1, 2, 1, 2, stage=1, stage_step=0, stage_steps=1)


def tiny_tokenizer(**options: Any) -> VisualTokenizer:
    small = {"strides": (2, 2), "channels": 8, "num_res_layers": 1, "num_tokens": 16, "token_dim": 4, "decay": 0.9}
    return VisualTokenizer(**{**small, **options})


def tiny_method(**options: Any) -> BEiTMethod:
    vit = {"class_token": options.pop("class_token", False)}
    backbone = ViTBackbone(image_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2, **vit)
    return BEiTMethod(backbone, tiny_tokenizer(), **{"image_size": 16, **options})


def speaking_method(**options: Any) -> BEiTMethod:
    """A tokenizer with encodings of patches as codes, so that patches have different words."""
    method = tiny_method(**options)
    with torch.no_grad():
        rows = method.tokenizer.encoder(batch_of(4, first=50)["target"]).movedim(1, -1).flatten(0, 2)  # (64, 4)
        method.tokenizer.codebook.embedding.weight.copy_(rows[::4])
    return method


def patterned(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    coarse = np.random.RandomState(seed).randint(0, 256, (1, 24, 20))
    return coarse.repeat(2, 1).repeat(2, 2).astype(np.uint8)


def views() -> RandBEiTViewsd:
    return RandBEiTViewsd(image_size=16, cell_size=4, min_cells=2)


def batch_of(count: int = 4, first: int = 0) -> dict[str, Any]:
    transform = views()
    seeds = range(first, first + count)
    return list_data_collate([transform.set_random_state(seed)({"image": patterned(seed)}) for seed in seeds])


#: used by the contract tests
CASE = SimpleNamespace(method=tiny_method, views=views, image=patterned, phase=0)
MORE_CASES = {
    "predicting": SimpleNamespace(
        method=lambda: speaking_method(class_token=True), views=views, image=patterned, phase=1, base_lr=1e-2
    )
}


def pixels_of(mask: Tensor) -> Tensor:
    """(B, 16) patches of 4 pixels -> (B, 1, 16, 16)."""
    return mask.reshape(-1, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)


@pytest.fixture
def method() -> BEiTMethod:
    torch.manual_seed(0)
    return speaking_method().eval()


# ---------------------------------------------------------------------- wiring


@torch.no_grad()
def slow_words(method: BEiTMethod, image: Tensor) -> list[int]:
    """The nearest code of each patch of one image (1, C, H, W), one by one."""
    codes = method.tokenizer.codebook.embedding.weight
    encodings = method.tokenizer.encoder(image)[0].flatten(1).T
    return [min(range(len(codes)), key=lambda k: float((row - codes[k]).norm())) for row in encodings]


def test_the_prediction_equals_the_formula_patch_by_patch(method: BEiTMethod) -> None:
    batch, backbone = batch_of(), method.backbone
    scores, words = [], []
    for view, target, mask in zip(batch["view_1"], batch["target"], batch["mask"], strict=True):
        patches = backbone.patch_embed(view[None]).clone()
        for number in mask.nonzero().flatten().tolist():
            patches[0, number // 4, number % 4] = method.mask_token.mask_token
        tokens = backbone.forward_patches(patches)[-1][0].flatten(1).T
        words += slow_words(method, target[None])
        for number in mask.nonzero().flatten().tolist():
            logits = method.token_head.weight @ tokens[number] + method.token_head.bias
            scores.append(-torch.log_softmax(logits, 0)[slow_words(method, target[None])[number]])
    assert len(set(words)) > 4
    assert len(scores) == batch["mask"].sum()
    terms = method(batch, PREDICT)
    assert set(terms) == {"prediction"}
    torch.testing.assert_close(terms["prediction"], torch.stack(scores).mean(), rtol=1e-5, atol=1e-5)


def test_the_tokenizer_s_terms_equal_the_formulas(method: BEiTMethod) -> None:
    batch, tokenizer = batch_of(), method.tokenizer
    codes = tokenizer.codebook.embedding.weight
    errors, distances = [], []
    for target in batch["target"]:
        encodings = tokenizer.encoder(target[None])
        nearest = codes[slow_words(method, target[None])].T.reshape(1, 4, 4, 4)
        errors.append((tokenizer.decoder(nearest) - target[None]).square().mean())
        distances.append((encodings - nearest).square().mean())
    terms = method(batch, TOKENIZE)
    assert set(terms) == {"reconstruction", "commitment"}
    torch.testing.assert_close(terms["reconstruction"], torch.stack(errors).mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(terms["commitment"], torch.stack(distances).mean(), rtol=1e-5, atol=1e-5)
    assert method.loss_weights == {"reconstruction": 1.0, "commitment": 0.25, "prediction": 1.0}


class ReadsWords(nn.Module):
    """A head that predicts given words (B, N) with near certainty."""

    def __init__(self, words: Tensor) -> None:
        super().__init__()
        self.words = words

    def forward(self, tokens: Tensor) -> Tensor:
        return 100.0 * nn.functional.one_hot(self.words, 16)


def test_the_right_words_at_their_places_cost_nothing_and_others_do(method: BEiTMethod) -> None:
    batch = batch_of()
    words = torch.tensor([slow_words(method, target[None]) for target in batch["target"]])
    transposed = words.reshape(-1, 4, 4).transpose(1, 2).flatten(1)
    for told, right in ((words, True), (transposed, False), (words.roll(1, 0), False)):
        method.token_head = ReadsWords(told)
        term = method(batch, PREDICT)["prediction"]
        assert term < 1e-6 if right else term > 10


def test_the_words_are_those_of_the_target_and_count_where_hidden(method: BEiTMethod) -> None:
    batch = batch_of()
    hidden, noise = pixels_of(batch["mask"]), torch.rand(batch["target"].shape)
    expected = method(batch, PREDICT)["prediction"]
    # the network does not see what is hidden
    assert torch.equal(method({**batch, "view_1": batch["view_1"] + noise * hidden}, PREDICT)["prediction"], expected)
    other = method({**batch, "view_1": batch["view_1"] + noise * ~hidden}, PREDICT)["prediction"]
    assert not torch.equal(other, expected)
    # the targets are the words of the clean view
    assert not torch.equal(method({**batch, "target": -batch["target"]}, PREDICT)["prediction"], expected)


def test_hidden_patches_are_counted() -> None:
    batch = batch_of()
    assert len(batch["mask"].sum(1).unique()) > 1  # why they must be
    assert tiny_method().loss_denominators(batch)["mask_count"] == batch["mask"].sum()


# ---------------------------------------------------------------------- stages


def trainer_of(stage_epochs: tuple[int, ...] = (2, 2), **options: Any) -> SSLTrainer:
    torch.manual_seed(0)
    method = tiny_method()
    dataset = SeededDataset([{"image": patterned(seed)} for seed in range(9)], views(), seed=3)
    return SSLTrainer(
        device="cpu",
        max_epochs=sum(stage_epochs),
        stage_epochs=stage_epochs,
        train_data_loader=resumable_loader(dataset, batch_size=4, seed=3),
        method=method,
        optimizers=build_optimizers(
            method, "adamw", lr=1e-2, weight_decay=0.1, others={"tokenizer": {"name": "adam", "lr": 1e-2}}
        ),
        schedules={"lr": CosineSchedule(1e-2, per_stage=True), "tokenizer.lr": ConstantSchedule(1e-2)},
        seed=3,
        precision="fp32",
        **options,
    )


def part(method: BEiTMethod, tokenizer: bool) -> dict[str, Tensor]:
    state = method.state_dict().items()
    return {name: value.clone() for name, value in state if name.startswith("tokenizer.") == tokenizer}


def test_the_tokenizer_learns_first_and_rests_from_then_on() -> None:
    trainer = trainer_of()
    moved: list[tuple[set[str], set[str], set[str]]] = []
    step = trainer._iteration

    def recorded(engine: Any, batch: Any) -> Any:
        before = [part(trainer.method, tokenizer) for tokenizer in (True, False)]
        output = step(engine, batch)
        after = [part(trainer.method, tokenizer) for tokenizer in (True, False)]
        changed = [{n for n in one if not torch.equal(one[n], two[n])} for one, two in zip(before, after, strict=True)]
        moved.append((set(output[0]) - {"loss"}, *changed))
        return output

    trainer._process_function = recorded
    trainer.run()
    names = [set(part(trainer.method, tokenizer)) for tokenizer in (True, False)]
    for step_number, (terms, tokenizer, rest) in enumerate(moved):
        if step_number < 4:
            assert terms == {"reconstruction", "commitment"}
            assert tokenizer == names[0]
            assert rest == set()
        else:
            assert terms == {"prediction"}
            assert tokenizer == set()
            assert rest == names[1]


@pytest.mark.parametrize("cut", [3, 4, 5])
def test_a_run_cut_before_at_or_after_the_change_of_stage_equals_the_straight_one(
    cut: int, resumes_exactly: Callable[..., None]
) -> None:
    resumes_exactly(trainer_of, cut, 8)


def test_micro_batches_move_the_codebook_as_the_whole_batch_does() -> None:
    whole, cut = trainer_of(), trainer_of(micro_batch_size=1)
    for trainer in (whole, cut):
        trainer.run()
    for name, value in whole.method.state_dict().items():
        torch.testing.assert_close(cut.method.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_a_step_that_is_not_finite_leaves_the_codebook() -> None:
    method, batch = tiny_method(), batch_of()
    method(batch, TOKENIZE)
    method.after_step(TOKENIZE)
    before = part(method, tokenizer=True)
    batch["target"][0, 0, 3, 3] = torch.inf
    method(batch, TOKENIZE)
    method.after_step(TOKENIZE)
    assert all(torch.equal(value, before[name]) for name, value in part(method, tokenizer=True).items())


def test_the_words_in_use_are_a_metric() -> None:
    method = tiny_method()
    assert method.metrics()["codebook_perplexity"] == 0
    method(batch_of(), TOKENIZE)
    method.after_step(TOKENIZE)
    assert 1 < method.metrics()["codebook_perplexity"] <= 16


def test_each_stage_has_an_optimizer() -> None:
    method = tiny_method()
    apart = [group for group in method.param_groups(0.1) if group["optimizer"] == "tokenizer"]
    learned = {id(p) for p in method.tokenizer.parameters() if p.requires_grad}
    assert {id(p) for group in apart for p in group["params"]} == learned
    assert {(group["weight_decay"], group["decayed"]) for group in apart} == {(0.0, False)}
    assert method.export_networks() == {"encoder": method.backbone, "tokenizer": method.tokenizer}


# ---------------------------------------------------------------------- views and misfits


def test_the_views_hide_blocks() -> None:
    sample = RandBEiTViewsd(image_size=56, cell_size=4).set_random_state(0)({"image": torch.rand(1, 80, 64)})
    assert set(sample) == {"view_1", "target", "mask"}
    assert torch.equal(sample["view_1"], sample["target"])
    rows = sample["mask"].view(14, 14)
    assert 78.4 < rows.sum() <= 94.4
    assert (rows[:, 1:] & rows[:, :-1]).sum() > 0.7 * rows[:, :-1].sum()
    defaults = RandBEiTViewsd()
    assert (defaults.image_size, defaults.cell_size, defaults.mask_ratio, defaults.min_cells) == (224, 16, 0.4, 16)
    assert (defaults.area, defaults.flip_prob) == ((0.08, 1.0), 0.0)


def test_the_paper_s_network() -> None:
    with torch.device("meta"):
        method = BEiTMethod(ViTBackbone(), VisualTokenizer())
    assert method.grid == (14, 14)
    assert method.token_head.weight.shape == (8192, 768)
    assert method.tokenizer.codebook.embedding.weight.shape == (8192, 32)


def test_views_that_do_not_fit_are_refused() -> None:
    for ratio, hidden in ((0.95, 76.8), (0.9, 73.6)):
        transform = RandBEiTViewsd(image_size=32, cell_size=4, mask_ratio=ratio)
        with pytest.raises(ValueError, match=rf"mask_ratio={ratio} and min_cells=16, which hide up to {hidden} of 64"):
            transform({"image": torch.rand(1, 40, 40)})
    with pytest.raises(ValueError, match=r"mask_ratio must be in \(0, 1\), got 0"):
        RandBEiTViewsd(mask_ratio=0)
    with pytest.raises(ValueError, match=r"image_size=225 and cell_size=16; nearest is 224"):
        RandBEiTViewsd(image_size=225)
    with pytest.raises(ValueError, match=r"image must be \(C, H, W\), got \(1, 8, 8, 8\); RandBEiTViewsd is 2D only"):
        views()({"image": torch.rand(1, 8, 8, 8)})


def test_batches_that_do_not_fit_are_refused() -> None:
    method, batch = tiny_method(), batch_of()
    with pytest.raises(ValueError, match=r"view_1 must be \(B, C, 16, 16\), got \(4, 1, 12, 12\)"):
        method({**batch, "view_1": batch["view_1"][..., :12, :12]}, PREDICT)
    for progress in (TOKENIZE, PREDICT):
        with pytest.raises(ValueError, match=r"target must be \(B, C, 16, 16\), got \(4, 1, 12, 12\)"):
            method({**batch, "target": batch["target"][..., :12, :12]}, progress)
        with pytest.raises(ValueError, match=r"mask must be \(B, 16\).*got \(4, 9\); give RandBEiTViewsd"):
            method({**batch, "mask": batch["mask"][:, :9]}, progress)
    with pytest.raises(ValueError, match=r"two stages, got a run without; give SSLTrainer stage_epochs="):
        method(batch, Progress(0, 1, 0, 1))


def test_networks_that_do_not_fit_are_refused() -> None:
    backbone = tiny_method().backbone
    with pytest.raises(TypeError, match=r"must be a ViTBackbone.*got SwinBackbone; SimMIM takes a Swin"):
        BEiTMethod(SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2)), tiny_tokenizer())
    with pytest.raises(TypeError, match=r"must be a VisualTokenizer, got VQVAE"):
        BEiTMethod(backbone, VQVAE(2, 1, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"one word for each patch.*patches of 8 pixels .* and patch_size=4; four"):
        BEiTMethod(backbone, tiny_tokenizer(strides=(2, 2, 2)), image_size=16)
    with pytest.raises(ValueError, match=r"image_size=18 and strides\[-1\]=4; nearest is 16"):
        BEiTMethod(backbone, tiny_tokenizer(), image_size=18)
    with pytest.raises(ValueError, match=r"same images, got spatial_dims=2 and in_channels=3 beside 2 and 1"):
        BEiTMethod(backbone, tiny_tokenizer(in_channels=3), image_size=16)
    with pytest.raises(ValueError, match=r"commitment_weight must be positive, got 0"):
        tiny_method(commitment_weight=0)
    volume = ViTBackbone(spatial_dims=3, image_size=16, patch_size=4, embed_dim=24, depth=1, num_heads=2)
    with pytest.raises(ValueError, match=r"spatial_dims=2, got 3; MAEMethod and SimMIMMethod take volumes"):
        BEiTMethod(volume, tiny_tokenizer(spatial_dims=3), image_size=16)
