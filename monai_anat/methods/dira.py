"""DiRA: tell images apart, restore them, and restore them so well that an adversary is taken in; in one U-Net."""

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
from monai_anat.methods.barlow_twins import REDUNDANCY_WEIGHT, barlow_projector, barlow_terms
from monai_anat.methods.base import TeacherStudentMethod, split_groups, used_terms
from monai_anat.methods.contrast_views import RandContrastViewsd
from monai_anat.methods.momentum_contrast import MomentumContrastMethod
from monai_anat.methods.simsiam import siamese_heads, stopped_similarity
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.heads.unet import BackboneUNet
from monai_anat.precision import at_least_float32
from monai_anat.schedules import Progress
from monai_anat.transforms.appearance import RandAppearance
from monai_anat.transforms.distortions import RandCutSwap, RandDistort

__all__ = ["DiRAMethod", "RandDiRAViewsd"]

Discriminative = Literal["moco_v2", "simsiam", "barlow_twins"]

#: published width of the embeddings of each discriminative part
EMBEDDING_DIMS: dict[Discriminative, int] = {"moco_v2": 128, "simsiam": 2048, "barlow_twins": 8192}


class RandDiRAViewsd(RandContrastViewsd):
    """Make the batch item of :class:`DiRAMethod`: two distorted views, and what the first one was.

    Each view is a random box, resampled, flipped with ``flip_prob``, changed in brightness, contrast and sharpness,
    and then loses boxes, keeps only boxes, has blocks swapped, or stays (:class:`~monai_anat.transforms.RandCutSwap`).
    The target is the first view with its crop and its flip and nothing else. DiRA (Haghighi et al., CVPR
    2022, arXiv:2204.10437).

    The sample gets ``view_1``, ``view_2`` and ``target``, each (C, h, w). The target stays in [0, 1], where the
    restoring network ends; the views are not normalized either, as published, unless ``mean`` and ``std`` say so.

    Differs from the released code: the target is flipped with its view (there, it is the mirror image in half of the
    draws); swapped blocks never overlap. ``flip_prob`` is .5 as published; 0 is the anatomy preset of this package,
    since the heart is on the left.

    Args:
        keys: the key of the image, (C, H, W), uint8, uint16, or floating point in [0, 1].
        image_size: side of a view in pixels, a multiple of ``backbone.strides[-1]``; one number or one per axis.
        area: smallest and largest share of the image that a view shows.
        flip_prob: probability of exchanging left and right, for each view by itself.
        mean: of the gray levels in [0, 1], for normalization of the views.
        std: of the gray levels in [0, 1].
        appearance: jitter and blur; those of MoCo v2 by default.
        distorter: what distorts the views; DiRA's by default.

    Raises:
        ValueError: for a probability outside [0, 1], or (when called) a volume.

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


class DiRAMethod(MomentumContrastMethod):
    r"""Discriminative, restorative and adversarial learning in one U-Net, of which encoder and decoder are kept.

    With the U-Net's restoration :math:`\hat x = \sigma(g(v_1))` of the clean crop :math:`x` and a patch discriminator
    :math:`D`, the terms are

    - "discrimination": the contrast of MoCo v2 between the views (:class:`MomentumContrastMethod`), or the loss of
      :class:`SimSiamMethod` or :class:`BarlowTwinsMethod`, as in the paper's other two variants;
    - "restoration": the mean of :math:`(\hat x - x)^2`;
    - "adversarial": the mean of :math:`(D(\hat x) - 1)^2`, which moves the U-Net and not :math:`D`;
    - "discriminator": half the mean of :math:`(D(x) - 1)^2` and of :math:`D(\hat x)^2`, which moves :math:`D` only

    (Haghighi et al., "DiRA: Discriminative, Restorative, and Adversarial Learning for Self-supervised Medical
    Image Analysis", CVPR 2022, arXiv:2204.10437). Both players learn in one step: the generator's term sees the
    discriminator's weights, and the discriminator's term the restoration, as constants, so that one backward pass gives
    the gradients of the published pair of updates (first the U-Net, then the discriminator on the same restoration).
    The discriminator has an optimizer of its own, ``adversary``. DiRA trains in two stages: without adversary ("dir",
    stage 0 of the trainer's ``stage_epochs``) and with it ("dira", stage 1).

    Differs from the released code: keys go through the encoder only; the discriminator's convolutions before a
    normalization have no bias, which it would subtract; see :class:`MomentumContrastMethod` and :class:`RandDiRAViewsd`
    for the rest. The paper writes the logarithmic game (``criterion="bce"``), its code plays least squares. The code
    has MoCo v2 only; heads and settings of the other two are those of their own papers.

    Args:
        backbone: a 2D backbone whose stages halve the image one after the other: ResNet (ResNet-50 in the paper), Swin,
            ConvNeXt.
        discriminative: what tells the images apart: "moco_v2", "simsiam" or "barlow_twins". The last two have no
            teacher and no queue, and see the batch of all processes.
        embedding_dim: width of the embeddings; 128, 2048 or 8192 if not given.
        hidden_dim: of MoCo v2, width of the projection's hidden layer (that of the backbone if not given); of SimSiam,
            that of the predictor (a quarter of the embedding).
        queue_size: how many keys of MoCo v2 wait; the batch over all processes must divide it.
        temperature: of the contrast of MoCo v2.
        decoder_channels: of the U-Net's decoder, coarse to fine.
        norm: normalization in the decoder.
        discriminator_channels: of its first convolution; the next three double them.
        adversarial_stage: the stage from which on the adversary plays; 0 from the beginning.
        criterion: of the game, "least_squares" or "bce".
        discrimination_weight: of "discrimination", positive.
        restoration_weight: of "restoration", positive.
        adversarial_weight: of "adversarial"; 0 is DiR, without any discriminator.

    Raises:
        ValueError: for a backbone of volumes or without a pyramid, a negative stage, another discriminative part or
            criterion, a wrong weight, or (when called) views whose side is no multiple of ``backbone.strides[-1]``, or
            one image where the discriminative part needs two.

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
        width = EMBEDDING_DIMS[discriminative] if embedding_dim is None else embedding_dim
        if discriminative == "moco_v2":
            super().__init__(
                backbone, embedding_dim=width, hidden_dim=hidden_dim, queue_size=queue_size, temperature=temperature
            )
        else:  # no teacher and no queue
            TeacherStudentMethod.__init__(self)
            self._siamese(backbone.num_features, width, hidden_dim, discriminative)
        self.discriminative = discriminative
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

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the terms of ``view_1``, ``view_2`` and ``target`` (B, C, H, W).

        Args:
            batch: what :class:`RandDiRAViewsd` makes, collated.
            progress: its ``stage`` says whether the adversary plays.

        Returns:
            The unweighted terms by name.

        Raises:
            KeyError: if a key is missing.
            ValueError: if the views or the target do not fit the network.
        """
        (target,) = self.get_tensors(batch, TARGET)
        view_1, view_2 = self.get_view_pair(batch, at_least=1 if self.discriminative == "moco_v2" else 2)
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

    def _siamese(self, num_features: int, width: int, hidden_dim: int | None, discriminative: Discriminative) -> None:
        """The heads of a discriminative part without teacher."""
        if discriminative == "simsiam":
            hidden = max(1, width // 4) if hidden_dim is None else hidden_dim
            self.projection, self.predictor = siamese_heads(num_features, width, hidden)
        else:
            self.projection = barlow_projector(num_features, width)

    def _discrimination(self, map_1: Tensor, view_2: Tensor) -> Tensor:
        if self.discriminative == "moco_v2":
            return self.contrast(map_1, view_2)
        map_2 = self.network.encode(view_2)[-1]
        if self.discriminative == "simsiam":
            return stopped_similarity(self.projection, self.predictor, map_1, map_2)
        terms = barlow_terms(self.projection, map_1, map_2)
        return terms["agreement"] + REDUNDANCY_WEIGHT * terms["redundancy"]

    def student_teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pair backbone and projection with those that make the keys of MoCo v2; the others have no teacher."""
        return super().student_teacher_pairs() if self.discriminative == "moco_v2" else []

    def after_step(self, progress: Progress) -> None:
        """Enqueue the keys of the step, where there is a queue."""
        if self.discriminative == "moco_v2":
            super().after_step(progress)

    def _game(self, restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Both players' terms; each takes what the other one owns as a constant."""
        fixed = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        taken_in: Tensor = functional_call(self.discriminator, fixed, (restored,))[-1]
        # one forward for both: its normalization looks at each image by itself
        real, restorations = self.discriminator(torch.cat([target, restored.detach()]))[-1].chunk(2)
        return {
            "adversarial": generator_loss(taken_in, self.criterion),
            "discriminator": discriminator_loss(real, restorations, self.criterion),
        }

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Give the discriminator groups of its own, for the optimizer ``adversary`` and without decay.

        The learning rate of SimSiam's predictor stays, as in :class:`SimSiamMethod`.
        """
        groups = super().param_groups(weight_decay)
        if self.discriminative == "simsiam":
            groups = split_groups(groups, self.predictor, "predictor", scheduled=False)
        if "adversarial" not in self.loss_weights:
            return groups
        return split_groups(
            groups, self.discriminator, "adversary", optimizer="adversary", weight_decay=0.0, decayed=False
        )

    def export_networks(self) -> dict[str, nn.Module]:
        """Keep the student's backbone and the decoder; both load strictly into another ``BackboneUNet``."""
        return {"encoder": self.network.backbone, "decoder": self.network.decoder}
