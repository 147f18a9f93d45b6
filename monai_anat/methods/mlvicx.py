"""MLVICX: multi-level variance, invariance and covariance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_anat.distributed import gather_rows
from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import IMAGE
from monai_anat.losses.vicreg import vicreg_covariance, vicreg_invariance, vicreg_variance
from monai_anat.methods.base import SSLMethod, mean_token, used_terms, uses_batch_statistics
from monai_anat.methods.contrast_views import RandContrastViewsd, asymmetric_appearances
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.backbones.gates import GatedBackbone
from monai_anat.networks.heads.expander import ExpanderHead
from monai_anat.networks.heads.fusion import FusionHead
from monai_anat.precision import at_least_float32
from monai_anat.schedules import Progress
from monai_anat.transforms.distortions import RandDistort

__all__ = ["MLVICXMethod", "RandMLVICXViewsd"]

#: smallest and largest share of the image in a view, and probability of a flip
PRESETS: dict[str, tuple[tuple[float, float], float]] = {"published": ((0.08, 1.0), 0.5), "anatomy": ((0.4, 1.0), 0.0)}


class RandMLVICXViewsd(RandContrastViewsd):
    """Make the batch item of :class:`MLVICXMethod`: the asymmetric pair of views of VICReg for gray images.

    Each view is a random crop, resampled by cubic interpolation, flipped, and changed in brightness and contrast. View
    1 is always blurred and never solarized. View 2 is blurred with probability 0.1 and solarized with probability 0.2
    (MLVICX, arXiv:2403.11504, after VICReg, arXiv:2105.04906). Saturation, hue and grayscale have no effect on one
    channel and are left out.

    The published settings are those of photographs: crops of 8 to 100 % of the area, and flips, which move the heart to
    the right. The preset "anatomy" is a suggestion of this package: crops of 40 to 100 %, no flip.

    The item holds ``view_1`` and ``view_2``, (C, H, W) each and normalized.

    Args:
        keys: key of the image (C, H, W), uint8, uint16, or floating point in [0, 1].
        image_size: side of a view in pixels, one number or one per axis.
        preset: "published" or "anatomy", defaults of the next two arguments.
        area: smallest and largest share of the image in a view; that of the preset if None.
        flip_prob: probability of flipping each view from left to right; that of the preset if None.
        blur_sigma: smallest and largest standard deviation of the blur in pixels; published for views of 224 pixels.
        mean: mean of the gray levels in [0, 1], for normalization.
        std: standard deviation of the gray levels in [0, 1], for normalization.
        distorter: distortion of the views; none by default.

    Raises:
        ValueError: if the preset is unknown, a probability is outside [0, 1], or a share is outside (0, 1]; when
            called, if the image is a volume.

    >>> sample = RandMLVICXViewsd(image_size=32).set_random_state(0)({"image": torch.rand(1, 80, 64)})
    >>> {key: tuple(value.shape) for key, value in sample.items()}
    {'view_1': (1, 32, 32), 'view_2': (1, 32, 32)}
    """

    takes_volumes = False

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        image_size: int | Sequence[int] = 224,
        *,
        preset: Literal["published", "anatomy"] = "published",
        area: tuple[float, float] | None = None,
        flip_prob: float | None = None,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        mean: float = CHEST_MEAN,
        std: float = CHEST_STD,
        distorter: RandDistort | None = None,
    ) -> None:
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(map(repr, PRESETS))}, got {preset!r}")
        preset_area, preset_flip = PRESETS[preset]
        super().__init__(
            keys,
            image_size,
            area=preset_area if area is None else area,
            flip_prob=preset_flip if flip_prob is None else flip_prob,
            mean=mean,
            std=std,
            mode="bicubic",
            appearance=asymmetric_appearances(blur_sigma),
            distorter=distorter,
        )


class MLVICXMethod(SSLMethod):
    r"""Multi-level variance-covariance exploration: VICReg terms of a global and of a multi-level embedding.

    One network sees both views; there is no teacher. The global embedding of a view comes from the pooled last map. The
    local embedding comes from the maps of all stages (:class:`~monai_anat.networks.FusionHead`). The map of each stage
    passes a gate before the next stage (:class:`~monai_anat.networks.GatedBackbone`). With

    .. math:: V(z_1, z_2) = 25\, s(z_1, z_2) + 25\, \tfrac12 [v(z_1) + v(z_2)] + c(z_1) + c(z_2)

    (:func:`~monai_anat.losses.vicreg_invariance`, :func:`~monai_anat.losses.vicreg_variance`,
    :func:`~monai_anat.losses.vicreg_covariance`) the loss is :math:`V_{global} + \lambda V_{local}` (MLVICX,
    arXiv:2403.11504). The terms are "global_invariance", "global_variance", "global_covariance" and the same of
    "local". Variance and covariance are statistics of the batch over the rows of all processes; micro-batches change
    them.

    Differs from the released code: the convolutions of the fusion are trained (there, they are created anew in every
    forward pass); the gates belong to the exported encoder (there, fine-tuning drops them); widths are read from the
    backbone, so that ResNet-50, Swin and ViT work (there, only networks of basic blocks do). Pooling precedes the
    projection, and the covariance term is computed from the Gram matrix if the batch is smaller than the embedding,
    both with the same values. The paper does not give the weight of the local part; the code has 1.

    Args:
        backbone: 2D backbone of this package, with or without gates; ResNet-18 in the paper.
        gates: add gates between the stages of a backbone that has none. False trains and exports the plain backbone;
            then any 2D backbone works, MONAI networks included.
        global_dim: width of the global embedding and of its head.
        local_dim: width of the local embedding and of its head.
        fused_channels: channels to which the local head maps the map of each stage.
        fused_size: side to which the local head resizes the map of each stage.
        pooled_size: positions per side of the pooled fused map, from which the local embedding is computed.
        local_weight: :math:`\lambda`; 0 disables the local terms and their head.
        invariance_weight: weight of both invariance terms.
        variance_weight: weight of both variance terms.
        covariance_weight: weight of both covariance terms.
        final_norm: end both heads with batch normalization, as in the paper's code and unlike VICReg.

    Raises:
        TypeError: if the backbone cannot have gates and ``gates`` is True.
        ValueError: if the backbone is 3D, ``gates=False`` is combined with a gated backbone, or all weights are 0.

    >>> from monai_anat.networks import SwinBackbone
    >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)
    >>> method = MLVICXMethod(backbone, global_dim=32, local_dim=32, fused_channels=8, fused_size=8)
    >>> views = {"view_1": torch.randn(4, 1, 32, 32), "view_2": torch.randn(4, 1, 32, 32)}
    >>> sorted(method(views, Progress(0, 1, 0, 1)))[:3]
    ['global_covariance', 'global_invariance', 'global_variance']
    """

    views_name = "RandMLVICXViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        gates: bool = True,
        global_dim: int = 4096,
        local_dim: int = 4096,
        fused_channels: int = 512,
        fused_size: int = 64,
        pooled_size: int = 4,
        local_weight: float = 1.0,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        final_norm: bool = True,
    ) -> None:
        super().__init__()
        if backbone.spatial_dims != 2:
            raise ValueError(
                f"MLVICXMethod is 2D only, got a backbone with spatial_dims={backbone.spatial_dims}; PEACMethod and "
                "POPARMethod take volumes"
            )
        gated = isinstance(backbone, GatedBackbone)
        if gated and not gates:
            raise ValueError("gates=False needs a backbone without gates, got a GatedBackbone; pass its .backbone")
        self.loss_weights = used_terms(
            global_invariance=invariance_weight,
            global_variance=variance_weight,
            global_covariance=covariance_weight,
            local_invariance=local_weight * invariance_weight,
            local_variance=local_weight * variance_weight,
            local_covariance=local_weight * covariance_weight,
        )
        self.backbone = GatedBackbone(backbone=backbone) if gates and not gated else backbone
        self.global_head = ExpanderHead(self.backbone.num_features, global_dim, final_norm=final_norm)
        if local_weight > 0:
            self.local_head = FusionHead(
                self.backbone.stage_channels,
                local_dim,
                fused_channels=fused_channels,
                fused_size=fused_size,
                pooled_size=pooled_size,
                final_norm=final_norm,
            )

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the terms of ``view_1`` and ``view_2`` (B, C, H, W).

        Args:
            batch: collated items of :class:`RandMLVICXViewsd`.
            progress: not used.

        Returns:
            The unweighted terms by name.

        Raises:
            KeyError: if a key is missing.
            ValueError: if the views differ in shape, or the batch of all processes holds one image.
        """
        view_1, view_2 = self.get_view_pair(batch, at_least=2)
        maps_1, maps_2 = self._maps(view_1, view_2)
        pairs = {"global": tuple(self.global_head(mean_token(maps[-1])) for maps in (maps_1, maps_2))}
        if hasattr(self, "local_head"):
            pairs["local"] = tuple(self.local_head(maps) for maps in (maps_1, maps_2))
        terms = {}
        for level, embeddings in pairs.items():
            z_1, z_2 = (gather_rows(at_least_float32(z)) for z in embeddings)
            for term in (vicreg_invariance, vicreg_variance, vicreg_covariance):
                name = f"{level}_{term.__name__.removeprefix('vicreg_')}"
                if name in self.loss_weights:
                    terms[name] = term(z_1, z_2)
        return terms

    def export_networks(self) -> dict[str, torch.nn.Module]:
        """Return the backbone, gates included."""
        return {"encoder": self.backbone}

    def _maps(self, view_1: Tensor, view_2: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Compute the maps of all stages of each view, in one forward pass if no layer uses batch statistics."""
        if uses_batch_statistics(self.backbone):
            return self.backbone.forward_stages(view_1), self.backbone.forward_stages(view_2)
        joint = [feature_map.chunk(2) for feature_map in self.backbone.forward_stages(torch.cat([view_1, view_2]))]
        return [maps[0] for maps in joint], [maps[1] for maps in joint]
