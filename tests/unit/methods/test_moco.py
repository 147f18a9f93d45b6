"""MoCo v2: wiring of the contrast; test_momentum_contrast.py tests the part."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import list_data_collate

from monai_anat.methods import MoCoV2Method, RandContrastViewsd
from monai_anat.networks import ResNetBackbone, SwinBackbone, ViTBackbone
from monai_anat.schedules import Progress
from monai_anat.transforms import RandDistort

START = Progress(0, 1, 0, 1)


def tiny_method(**options: Any) -> MoCoV2Method:
    backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    return MoCoV2Method(backbone, **{"embedding_dim": 16, "queue_size": 8, **options})


def patterned(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A coarse pattern per image, so that images differ clearly."""
    coarse = np.random.RandomState(seed).randint(0, 256, (1, 6, 5))
    return coarse.repeat(8, 1).repeat(8, 2).astype(np.uint8)


def batch_of(image_size: int = 16, **options: Any) -> dict[str, Any]:
    views = RandContrastViewsd(image_size=image_size, **options)
    return list_data_collate([views.set_random_state(seed)({"image": patterned(seed)}) for seed in range(8)])


@torch.no_grad()
def spread(method: MoCoV2Method, image_size: int = 16) -> MoCoV2Method:
    """Scale embeddings to all directions, and fill the queue with those of the first eight images.

    Those of a random network are short and point one way. And where the contract suite takes twenty steps on one batch,
    its keys fill the queue: only from there on does the loss fall.
    """
    view = batch_of(image_size)["view_2"]
    embeddings = method.eval().contrast.projection(method.backbone(view).flatten(2).mean(2))
    centered = embeddings - embeddings.mean(0)
    for projection in (method.contrast.projection, method.contrast.teacher_projection):
        projection[-1].bias -= embeddings.mean(0)
        for parameter in projection[-1].parameters():
            parameter /= centered.norm(dim=1).mean()
    method.contrast.queue.keys.copy_(F.normalize(centered, dim=1))
    return method.train()


#: used by the contract tests
CASE = SimpleNamespace(
    method=lambda: spread(tiny_method()), views=lambda: RandContrastViewsd(image_size=16), image=patterned
)
MORE_CASES = {
    "distorted": SimpleNamespace(
        method=lambda: spread(tiny_method()),
        views=lambda: RandContrastViewsd(image_size=16, distorter=RandDistort()),
        image=patterned,
    ),
    # batch normalization of the student uses the images of one process and, in training, of one micro-batch
    "resnet": SimpleNamespace(
        method=lambda: spread(MoCoV2Method(ResNetBackbone(depth=18), embedding_dim=16, queue_size=8), 32),
        views=lambda: RandContrastViewsd(image_size=32),
        image=patterned,
        joint_batch=False,
        base_lr=1e-3,
    ),
}


def test_the_term_is_cross_entropy_of_the_authors_logits() -> None:
    """The positive in column 0, the queue behind it, all divided by the temperature."""
    torch.manual_seed(0)
    method, batch = tiny_method().eval(), batch_of()
    with torch.no_grad():
        for parameter in (p for _, teacher in method.student_teacher_pairs() for p in teacher.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
    query = F.normalize(method.contrast.projection(method.backbone(batch["view_1"]).mean((2, 3))))
    key = F.normalize(method.contrast.teacher_projection(method.teacher["backbone"](batch["view_2"]).mean((2, 3))))
    logits = torch.cat([torch.einsum("nc,nc->n", query, key)[:, None], query @ method.contrast.queue.keys.T], 1) / 0.2
    expected = F.cross_entropy(logits, torch.zeros(8, dtype=torch.long))
    torch.testing.assert_close(method(batch, START)["contrast"], expected, rtol=1e-5, atol=1e-5)
    exchanged = method({**batch, "view_1": batch["view_2"], "view_2": batch["view_1"]}, START)["contrast"]
    assert abs(exchanged - expected) > 1e-5


def test_equal_views_beside_an_empty_queue_cost_next_to_nothing_and_other_images_views_cost_more() -> None:
    method = tiny_method(queue_size=4).eval()
    method.contrast.queue.keys.zero_()
    view = batch_of()["view_1"]
    equal = method({"view_1": view, "view_2": view}, START)["contrast"]
    assert equal.item() == pytest.approx(np.log1p(4 * np.exp(-1 / 0.2)), rel=1e-4)
    assert method({"view_1": view, "view_2": view.flip(0)}, START)["contrast"] > equal


@pytest.mark.parametrize("dims", [2, 3])
def test_any_backbone_trains(dims: int) -> None:
    torch.manual_seed(0)
    volume = {"spatial_dims": dims, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 2}
    backbones = [SwinBackbone(patch_size=2, **volume)]
    if dims == 2:
        backbones.append(ViTBackbone(image_size=16, patch_size=4, embed_dim=24, depth=1, num_heads=2))
    for backbone in backbones:
        method = MoCoV2Method(backbone, embedding_dim=8, queue_size=4).train()
        view = torch.randn(2, 1, *[16] * dims)
        terms = method({"view_1": view, "view_2": view + 0.1}, START)
        terms["contrast"].backward()
        method.after_step(START)
        assert method.contrast.queue.pointer == 2
        assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.requires_grad)


def test_the_published_settings_are_the_defaults() -> None:
    with torch.device("meta"):
        method = MoCoV2Method(ResNetBackbone(depth=50))
    assert (tuple(method.contrast.queue.keys.shape), method.contrast.temperature) == ((65536, 128), 0.2)
    assert [tuple(p.shape) for p in method.contrast.projection.parameters()] == [
        (2048, 2048),
        (2048,),
        (128, 2048),
        (128,),
    ]


def test_misfits_are_refused() -> None:
    method, batch = tiny_method(), batch_of()
    with pytest.raises(ValueError, match=r"one shape, got \(8, 1, 16, 16\) and \(4, 1, 16, 16\); RandContrastViewsd"):
        method({**batch, "view_2": batch["view_2"][:4]}, START)
    with pytest.raises(KeyError, match=r"batch lacks \['view_2'\].*RandContrastViewsd makes them"):
        method({"view_1": batch["view_1"]}, START)
