"""DiRA: discriminative, restorative and adversarial learning in one U-Net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from monai.config import KeysCollection
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn
from torch.func import functional_call

from monai_anat.keys import IMAGE, TARGET
from monai_anat.losses.adversarial import discriminator_loss, generator_loss
from monai_anat.losses.restoration import restoration_mse
from monai_anat.methods.barlow_twins import REDUNDANCY_WEIGHT, CrossCorrelation
from monai_anat.methods.base import TeacherStudentMethod, split_groups, used_terms
from monai_anat.methods.contrast_views import RandContrastViewsd
from monai_anat.methods.momentum_contrast import MomentumContrast
from monai_anat.methods.parts import frozen_copy
from monai_anat.methods.simsiam import SiameseSimilarity
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.heads.unet import BackboneUNet
from monai_anat.precision import at_least_float32
from monai_anat.schedules import Progress
from monai_anat.transforms.appearance import RandAppearance
from monai_anat.transforms.distortions import RandCutSwap, RandDistort

__all__ = ["DiRAMethod", "RandDiRAViewsd"]

Discriminative = Literal["moco_v2", "simsiam", "barlow_twins"]

#: published width of the embeddings of each discriminative objective
EMBEDDING_DIMS: dict[Discriminative, int] = {"moco_v2": 128, "simsiam": 2048, "barlow_twins": 8192}


class RandDiRAViewsd(RandContrastViewsd):
    """Make the batch item of :class:`DiRAMethod`: two distorted views, and the clean crop of the first.

    Each view is a random box, resampled, flipped with ``flip_prob``, and changed in brightness, contrast and blur. Then
    boxes are cut out, everything outside boxes is cut out, blocks are swapped, or nothing more happens
    (:class:`~monai_anat.transforms.RandCutSwap`). The target has the crop and the flip of the first view alone. DiRA
    (Haghighi et al., CVPR 2022, arXiv:2204.10437).

    The item holds ``view_1``, ``view_2`` and ``target``, each (C, h, w). The target is in [0, 1], the range of the
    restoring network. As published, the views are not normalized unless ``mean`` and ``std`` are given.

    Differs from the released code: the target is flipped with its view (there, it is the mirror image in half of the
    draws); swapped blocks never overlap. ``flip_prob`` is 0.5 as published; 0 keeps the heart on the left.

    Args:
        keys: key of the image (C, H, W), uint8, uint16, or floating point in [0, 1].
        image_size: side of a view in pixels, a multiple of ``backbone.strides[-1]``; one number or one per axis.
        area: smallest and largest share of the image in a view.
        flip_prob: probability of flipping each view from left to right.
        mean: mean of the gray levels in [0, 1], for normalization of the views.
        std: standard deviation of the gray levels in [0, 1], for normalization of the views.
        appearance: change of brightness, contrast and blur; that of MoCo v2 by default.
        distorter: distortion of the views; that of DiRA by default.

    Raises:
        ValueError: if a probability is outside [0, 1], or (when called) the image is a volume.

    >>> views = RandDiRAViewsd(image_size=32).set_random_state(0)
    >>> sample = views({"image": torch.rand(1, 80, 64)})
    >>> {key: tuple(value.shape) for key, value in sample.items()}
    {'view_1': (1, 32, 32), 'view_2': (1, 32, 32), 'target': (1, 32, 32)}
    """

    takes_volumes = False

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        image_size: int | Sequence[int] = 224,
        *,
        area: tuple[float, float] = (0.2, 1.0),
        flip_prob: float = 0.5,
        mean: float = 0.0,
        std: float = 1.0,
        appearance: RandAppearance | None = None,
        distorter: RandDistort | RandCutSwap | None = None,
    ) -> None:
        super().__init__(
            keys,
            image_size,
            area=area,
            flip_prob=flip_prob,
            mean=mean,
            std=std,
            appearance=appearance,
            distorter=RandCutSwap() if distorter is None else distorter,
        )

    def entries(self, crops: Sequence[Tensor]) -> dict[str, Tensor]:
        """Add the clean first crop, in [0, 1], to the two views."""
        return {**super().entries(crops), TARGET: crops[0].to(torch.float32)}


class DiRAMethod(TeacherStudentMethod):
    r"""Discriminative, restorative and adversarial learning in one U-Net; encoder and decoder are exported.

    With the U-Net's restoration :math:`\hat x = \sigma(g(v_1))` of the clean crop :math:`x` and a patch discriminator
    :math:`D`, the terms are

    - "discrimination": the loss of :class:`MoCoV2Method`, :class:`SimSiamMethod` or :class:`BarlowTwinsMethod` between
      the views, the three variants of the paper;
    - "restoration": the mean of :math:`(\hat x - x)^2`;
    - "adversarial": the mean of :math:`(D(\hat x) - 1)^2`, with gradients for the U-Net alone;
    - "discriminator": half the mean of :math:`(D(x) - 1)^2` and of :math:`D(\hat x)^2`, with gradients for :math:`D`
      alone

    (Haghighi et al., "DiRA: Discriminative, Restorative, and Adversarial Learning for Self-supervised Medical
    Image Analysis", CVPR 2022, arXiv:2204.10437). Both players learn in one step. The adversarial term treats the
    discriminator's weights as constants, and the discriminator's term treats the restoration as a constant. One
    backward pass then gives the gradients of the published pair of updates (first the U-Net, then the discriminator on
    the same restoration). The discriminator has an optimizer of its own, ``adversary``. DiRA trains in two stages:
    without adversary ("dir", stage 0 of the trainer's ``stage_epochs``) and with it ("dira", stage 1).

    Differs from the released code: keys pass the encoder only; the discriminator's convolutions before a normalization
    have no bias, which the normalization would subtract; see :class:`MoCoV2Method` and :class:`RandDiRAViewsd`
    for the rest. The paper describes the logarithmic game (``criterion="bce"``), its code uses least squares. The code
    has MoCo v2 only; heads and settings of SimSiam and Barlow Twins are those of their own papers.

    Args:
        backbone: 2D backbone that halves the resolution from stage to stage: ResNet (ResNet-50 in the paper), Swin or
            ConvNeXt.
        discriminative: discriminative objective, "moco_v2", "simsiam" or "barlow_twins". The last two have no teacher
            and no queue, and use statistics of the batch of all processes.
        embedding_dim: width of the embeddings; 128, 2048 or 8192 if None.
        hidden_dim: width of the projection's hidden layer for MoCo v2 (the channels of the backbone if None) or of the
            predictor's hidden layer for SimSiam (a quarter of the embedding if None).
        queue_size: number of keys in the queue of MoCo v2, a multiple of the batch size over all processes.
        temperature: temperature of the contrast of MoCo v2.
        decoder_channels: channels of the U-Net's decoder, coarse to fine.
        norm: normalization in the decoder.
        discriminator_channels: channels of the discriminator's first convolution; each of the next three doubles them.
        adversarial_stage: first stage with the adversary; 0 uses it from the start.
        criterion: loss of the game, "least_squares" or "bce".
        discrimination_weight: weight of "discrimination", positive.
        restoration_weight: weight of "restoration", positive.
        adversarial_weight: weight of "adversarial"; 0 is DiR, without a discriminator.

    Raises:
        ValueError: if the backbone is 3D or has no pyramid, the stage is negative, ``discriminative`` or ``criterion``
            is unknown, or a weight is out of range; when called, if the side of a view is not a multiple of
            ``backbone.strides[-1]``, or the batch holds one image and the objective needs two.

    >>> from monai_anat.networks import SwinBackbone
    >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    >>> method = DiRAMethod(backbone, queue_size=8, discriminator_channels=4)
    >>> image = torch.rand(2, 1, 32, 32)
    >>> batch = {"view_1": image, "view_2": image, "target": image}
    >>> sorted(method(batch, Progress(0, 2, 0, 2)))
    ['discrimination', 'restoration']
    >>> sorted(method(batch, Progress(1, 2, 1, 2, stage=1)))
    ['adversarial', 'discrimination', 'discriminator', 'restoration']
    """

    views_name = "RandDiRAViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        discriminative: Discriminative = "moco_v2",
        embedding_dim: int | None = None,
        hidden_dim: int | None = None,
        queue_size: int = 65536,
        temperature: float = 0.2,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        norm: str = "batch",
        discriminator_channels: int = 64,
        adversarial_stage: int = 1,
        criterion: Literal["least_squares", "bce"] = "least_squares",
        discrimination_weight: float = 1.0,
        restoration_weight: float = 10.0,
        adversarial_weight: float = 0.001,
    ) -> None:
        if discriminative not in EMBEDDING_DIMS:
            raise ValueError(f"discriminative must be one of {list(EMBEDDING_DIMS)}, got {discriminative!r}")
        super().__init__()
        width = EMBEDDING_DIMS[discriminative] if embedding_dim is None else embedding_dim
        self.teacher = nn.ModuleDict()
        self._add_discrimination(discriminative, backbone, width, hidden_dim, queue_size, temperature)
        if backbone.spatial_dims != 2:
            raise ValueError(
                f"backbone must have spatial_dims=2, got {backbone.spatial_dims}; DiRA is for images, not volumes"
            )
        if adversarial_stage < 0:
            raise ValueError(f"adversarial_stage must be at least 0, the first stage, got {adversarial_stage}")
        if criterion not in ("least_squares", "bce"):
            raise ValueError(f'criterion must be "least_squares" or "bce", got {criterion!r}')
        if min(discrimination_weight, restoration_weight) <= 0:
            raise ValueError(
                "discrimination_weight and restoration_weight must be positive, got "
                f"{discrimination_weight} and {restoration_weight}; contrast alone is MoCoV2Method"
            )
        self.loss_weights = used_terms(
            discrimination=discrimination_weight,
            restoration=restoration_weight,
            adversarial=adversarial_weight,
            discriminator=float(adversarial_weight > 0),
        )
        self.criterion = criterion
        self.adversarial_stage = adversarial_stage
        self.network = BackboneUNet(backbone, backbone.in_channels, decoder_channels=decoder_channels, norm=norm)
        if "adversarial" in self.loss_weights:
            self.find_unused_parameters = adversarial_stage > 0
            self.discriminator = PatchDiscriminator(
                2, discriminator_channels, backbone.in_channels, num_layers_d=3, kernel_size=3, norm="INSTANCE"
            )

    def _add_discrimination(
        self,
        discriminative: Discriminative,
        backbone: Backbone,
        width: int,
        hidden_dim: int | None,
        queue_size: int,
        temperature: float,
    ) -> None:
        features = backbone.num_features
        self.discrimination: MomentumContrast | SiameseSimilarity | CrossCorrelation
        if discriminative == "moco_v2":
            self.discrimination = MomentumContrast(
                features, embedding_dim=width, hidden_dim=hidden_dim, queue_size=queue_size, temperature=temperature
            )
            self.teacher["backbone"] = frozen_copy(backbone)
        elif discriminative == "simsiam":
            hidden = max(1, width // 4) if hidden_dim is None else hidden_dim
            self.discrimination = SiameseSimilarity(features, width, hidden)
        else:
            self.discrimination = CrossCorrelation(features, width)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the terms of ``view_1``, ``view_2`` and ``target`` (B, C, H, W).

        Args:
            batch: collated items of :class:`RandDiRAViewsd`.
            progress: current position; its ``stage`` switches the adversary on.

        Returns:
            The unweighted terms by name.

        Raises:
            KeyError: if a key is missing.
            ValueError: if the views or the target do not fit the network.
        """
        (target,) = self.get_tensors(batch, TARGET)
        view_1, view_2 = self.get_view_pair(batch, at_least=1 if "backbone" in self.teacher else 2)
        stages = self.network.encode(view_1)
        logits = self.network.decode(stages)
        restored = torch.sigmoid(at_least_float32(logits))  # (B, C, H, W) in [0, 1]
        terms = {
            "discrimination": self._discrimination(stages[-1], view_2),
            "restoration": restoration_mse(restored, target),
        }
        if "adversarial" in self.loss_weights and progress.stage >= self.adversarial_stage:
            terms |= self._game(restored, target)
        return terms

    @property
    def backbone(self) -> Backbone:
        """The student's backbone, the encoder of the U-Net."""
        return self.network.backbone

    def _discrimination(self, map_1: Tensor, view_2: Tensor) -> Tensor:
        if "backbone" in self.teacher:
            with torch.no_grad():
                map_2 = self.teacher["backbone"](view_2)
        else:
            map_2 = self.network.encode(view_2)[-1]
        if isinstance(self.discrimination, CrossCorrelation):
            terms = self.discrimination(map_1, map_2)
            loss: Tensor = terms["agreement"] + REDUNDANCY_WEIGHT * terms["redundancy"]
            return loss
        loss = self.discrimination(map_1, map_2)
        return loss

    def after_step(self, progress: Progress) -> None:
        """Put the keys of the step into the queue of MoCo v2."""
        if isinstance(self.discrimination, MomentumContrast):
            self.discrimination.enqueue()

    def _game(self, restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the terms of both players; each treats the other's parameters or output as constants."""
        fixed = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        judged: Tensor = functional_call(self.discriminator, fixed, (restored,))[-1]
        # one forward pass for both: instance normalization treats each image by itself
        real, restorations = self.discriminator(torch.cat([target, restored.detach()]))[-1].chunk(2)
        return {
            "adversarial": generator_loss(judged, self.criterion),
            "discriminator": discriminator_loss(real, restorations, self.criterion),
        }

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Separate the discriminator into groups of the optimizer ``adversary``, without decay.

        The learning rate of SimSiam's predictor is constant, as in :class:`SimSiamMethod`.
        """
        groups = super().param_groups(weight_decay)
        if isinstance(self.discrimination, SiameseSimilarity):
            groups = split_groups(groups, self.discrimination.predictor, "predictor", scheduled=False)
        if "adversarial" not in self.loss_weights:
            return groups
        return split_groups(
            groups, self.discriminator, "adversary", optimizer="adversary", weight_decay=0.0, decayed=False
        )

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the student's backbone and the decoder; both load strictly into another ``BackboneUNet``."""
        return {"encoder": self.network.backbone, "decoder": self.network.decoder}
