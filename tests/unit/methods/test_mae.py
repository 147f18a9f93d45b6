"""MAE: same predictions as MONAI's masked autoencoder, and hidden patches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import list_data_collate
from monai.networks.nets import MaskedAutoEncoderViT
from torch import Tensor, nn

from monai_anat.methods import MAEMethod, RandMAEViewsd
from monai_anat.networks import SwinBackbone, ViTBackbone
from monai_anat.networks.backbones.positions import sincos_positions
from monai_anat.schedules import Progress

START = Progress(0, 1, 0, 1)


def tiny_method(**options: Any) -> MAEMethod:
    vit = {"class_token": options.pop("class_token", False), "norm_eps": options.pop("norm_eps", 1e-6)}
    backbone = ViTBackbone(image_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2, **vit)
    return MAEMethod(
        backbone, **{"image_size": 16, "decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2, **options}
    )


def patterned(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    coarse = np.random.RandomState(seed).randint(0, 256, (1, 24, 20))
    return coarse.repeat(2, 1).repeat(2, 2).astype(np.uint8)


def views() -> RandMAEViewsd:
    return RandMAEViewsd(image_size=16, cell_size=4)


#: used by the contract tests
CASE = SimpleNamespace(method=tiny_method, views=views, image=patterned, base_lr=1e-2)
MORE_CASES = {
    "class token, own positions, plain pixels": SimpleNamespace(
        method=lambda: tiny_method(class_token=True, fixed_positions=False, normalize_patches=False),
        views=views,
        image=patterned,
    )
}


def batch_of(count: int = 4) -> dict[str, Any]:
    transform = views()
    return list_data_collate([transform.set_random_state(seed)({"image": patterned(seed)}) for seed in range(count)])


def pixels_hidden(visible: Tensor) -> Tensor:
    """(B, K) of 16 patches of 4 pixels -> (B, 1, 16, 16)."""
    hidden = torch.ones(len(visible), 16, dtype=torch.bool).scatter(1, visible, False)
    return hidden.reshape(-1, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)


def copy_block(target: nn.Module, source: Any) -> None:
    target.norm1.load_state_dict(source.norm1.state_dict())
    target.norm2.load_state_dict(source.norm2.state_dict())
    target.attn.qkv.load_state_dict(source.attn.qkv.state_dict())
    target.attn.out_proj.load_state_dict(source.attn.proj.state_dict())
    target.mlp.linear1.load_state_dict(source.mlp.fc1.state_dict())
    target.mlp.linear2.load_state_dict(source.mlp.fc2.state_dict())


def monai_with_weights_of(method: MAEMethod) -> MaskedAutoEncoderViT:
    ours, decoder = method.backbone, method.decoder
    theirs = MaskedAutoEncoderViT(
        in_channels=1,
        img_size=16,
        patch_size=4,
        hidden_size=24,
        mlp_dim=96,
        num_layers=2,
        num_heads=2,
        decoder_hidden_size=16,
        decoder_mlp_dim=64,
        decoder_num_layers=1,
        decoder_num_heads=2,
        pos_embed_type="learnable",
        decoder_pos_embed_type="learnable",
        spatial_dims=2,
        qkv_bias=True,
    )
    with torch.no_grad():
        theirs.cls_token.copy_(ours.cls_token + ours.pos_embed[:, :1])
        theirs.patch_embedding.patch_embeddings.load_state_dict(ours.patch_embed.proj.state_dict())
        theirs.patch_embedding.position_embeddings.copy_(ours.pos_embed[:, 1:])
        theirs.mask_tokens.copy_(decoder.mask_token)
        theirs.decoder_pos_embedding.copy_(decoder.positions)
    for theirs_blocks, our_blocks, norm in (
        (theirs.blocks, ours.blocks, ours.norm),
        (theirs.decoder_blocks, decoder.decoder_blocks, decoder.decoder_norm),
    ):
        for target, source in zip(list(theirs_blocks)[:-1], our_blocks, strict=True):
            copy_block(target, source)
        theirs_blocks[-1].load_state_dict(norm.state_dict())
    theirs.decoder_embed.load_state_dict(method.decoder_embed.state_dict())
    theirs.decoder_pred.load_state_dict(method.patch_head.state_dict())
    # the one difference: our decoder has a class token of its own
    theirs.decoder_embed.register_forward_hook(
        lambda module, args, out: torch.cat([decoder.cls_token.expand(len(out), -1, -1), out[:, 1:]], 1)
    )
    return theirs.eval()


def test_monais_network_predicts_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    method, batch = tiny_method(class_token=True, norm_eps=1e-5).eval(), batch_of()
    for parameter in method.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    theirs, visible = monai_with_weights_of(method), batch["visible"]

    def masking(x: Tensor, masking_ratio: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
        mask = torch.ones(x.shape[:2], dtype=torch.int).scatter(1, visible, 0)
        return x.gather(1, visible[:, :, None].expand(-1, -1, x.shape[2])), visible, mask

    monkeypatch.setattr(theirs, "_masking", masking)
    with torch.no_grad():
        expected, mask = theirs(batch["view_1"])
        predicted = method.restore(batch["view_1"], visible)
        torch.testing.assert_close(predicted, expected, rtol=1e-4, atol=1e-5)
        # the published loss, patch by patch
        total = torch.zeros(())
        for sample, target in enumerate(batch["target"]):
            for cell in mask[sample].nonzero().flatten().tolist():
                row, column = 4 * (cell // 4), 4 * (cell % 4)
                patch = target[0, row : row + 4, column : column + 4].flatten()
                scaled = (patch - patch.mean()) / (patch.var(correction=0) + 1e-6).sqrt()
                total += (expected[sample, cell] - scaled).square().mean()
        torch.testing.assert_close(method(batch, START)["restoration"], total / mask.sum(), rtol=1e-4, atol=1e-5)


def test_only_the_hidden_pixels_of_the_target_count() -> None:
    torch.manual_seed(0)
    method, batch = tiny_method().eval(), batch_of()
    hidden, noise = pixels_hidden(batch["visible"]), torch.rand(batch["target"].shape)
    expected = method(batch, START)["restoration"]
    visible_changed = {**batch, "target": batch["target"] + noise * ~hidden}
    assert torch.equal(method(visible_changed, START)["restoration"], expected)
    hidden_changed = {**batch, "target": batch["target"] + 5 * noise * hidden}
    assert abs(method(hidden_changed, START)["restoration"] - expected) > 1e-3


def test_the_network_sees_the_visible_pixels_and_no_others() -> None:
    torch.manual_seed(0)
    method, batch = tiny_method().eval(), batch_of()
    for parameter in method.parameters():  # with initial weights the input has little effect
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    hidden, noise = pixels_hidden(batch["visible"]), torch.rand(batch["target"].shape)
    expected = method(batch, START)["restoration"]
    assert torch.equal(method({**batch, "view_1": batch["view_1"] + noise * hidden}, START)["restoration"], expected)
    other = method({**batch, "view_1": batch["view_1"] + noise * ~hidden}, START)["restoration"]
    assert not torch.isclose(other, expected)


def test_it_learns_to_restore_a_patch_at_its_place() -> None:
    """A decoder with wrong positions of the visible patches could not."""
    torch.manual_seed(0)
    method, batch = tiny_method(normalize_patches=False).train(), batch_of(2)
    optimizer = torch.optim.AdamW(method.param_groups(0.0), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = method(batch, START)["restoration"]
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * batch["target"].var()


def test_the_views_say_which_patches_are_visible() -> None:
    sample = views().set_random_state(0)({"image": patterned(0)})
    assert set(sample) == {"view_1", "target", "visible"}
    visible = sample["visible"]
    assert visible.dtype == torch.int64
    assert visible.tolist() == sorted(set(visible.tolist()))
    assert len(visible) == 4
    defaults = RandMAEViewsd()
    assert (defaults.image_size, defaults.cell_size, defaults.mask_ratio, defaults.area) == (224, 16, 0.75, (0.2, 1.0))


def test_positions_are_fixed_as_published_or_left_alone() -> None:
    method = tiny_method(class_token=True)
    positions = method.backbone.pos_embed
    assert not positions.requires_grad
    assert torch.equal(positions[0, 1:], sincos_positions(24, (4, 4)))
    assert not positions[0, 0].any()
    torch.manual_seed(0)
    backbone = ViTBackbone(image_size=16, patch_size=4, embed_dim=24, depth=1, num_heads=2)
    before = backbone.pos_embed.clone()
    MAEMethod(backbone, image_size=16, decoder_dim=16, decoder_heads=2, fixed_positions=False)
    assert torch.equal(backbone.pos_embed, before)
    assert backbone.pos_embed.requires_grad


def test_misfits_are_refused() -> None:
    method, batch = tiny_method(), batch_of()
    with pytest.raises(ValueError, match=r"view_1 must be \(B, C, 16, 16\), got \(4, 1, 12, 12\)"):
        method({**batch, "view_1": batch["view_1"][..., :12, :12]}, START)
    with pytest.raises(
        ValueError, match=r"of 16 patches visible and one hidden, got \(4, 16\); give RandMAEViewsd cell_size=4"
    ):
        method({**batch, "visible": torch.arange(16).repeat(4, 1)}, START)
    with pytest.raises(TypeError, match=r"must be a ViTBackbone.*got SwinBackbone; SimMIM takes a Swin"):
        MAEMethod(SwinBackbone(embed_dim=8, depths=(1,), num_heads=(1,)))  # type: ignore[arg-type]
    backbone = ViTBackbone(image_size=16, patch_size=4, embed_dim=24, depth=1, num_heads=2)
    with pytest.raises(ValueError, match=r"image_size=18 and strides\[-1\]=4; nearest is 16"):
        MAEMethod(backbone, image_size=18)
