"""DINO: self-distillation with crops of several sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from monai.config import KeysCollection
from torch import Tensor, nn

from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import IMAGE, LOCAL_VIEWS, VIEW_1, VIEW_2
from monai_anat.losses.distillation import check_temperatures
from monai_anat.losses.multi_view import distinct_pairs
from monai_anat.methods.base import TeacherStudentMethod
from monai_anat.methods.contrast_views import (
    RandContrastViewsd,
    ViewDraw,
    alter_view,
    asymmetric_appearances,
    check_area,
    cut_view,
)
from monai_anat.methods.multi_crop import embed_views
from monai_anat.methods.parts import frozen_copy
from monai_anat.methods.self_distillation import SelfDistillation
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.schedules import Progress, linear
from monai_anat.transforms.appearance import RandAppearance
from monai_anat.transforms.distortions import RandCutSwap, RandDistort

__all__ = ["DINOMethod", "RandDINOViewsd"]


class RandDINOViewsd(RandContrastViewsd):
    """Make the batch item of :class:`DINOMethod`: two large crops of one image and several small ones.

    This is the multi-crop augmentation of DINO (Caron et al., ICCV 2021, arXiv:2104.14294, section 3.1) for gray
    images. Each crop is resampled by cubic interpolation and gets its own brightness and contrast. The first large crop
    is always blurred. The second is blurred with probability 0.1 and solarized with probability 0.2. Small crops are
    blurred with probability 0.5. Saturation, hue and grayscale have no effect on one channel and are left out. The
    published flip probability is 0.5; the default here is 0, because the heart lies on the left.

    Give the ``distorter`` of an anatomy method to compare objectives with equal augmentation.

    The item holds ``view_1`` and ``view_2`` (C, H, W[, D]) and ``local_views`` (V, C, h, w[, d]), all normalized.

    Args:
        keys: key of the image (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        image_size: side of a large crop in pixels, one number or one per axis.
        local_size: side of a small crop in pixels.
        area: smallest and largest share of the image in a large crop; 0.4 to 1 for ResNet.
        local_area: smallest and largest share of the image in a small crop; 0.05 to 0.4 for ResNet.
        local_crops: number of small crops.
        flip_prob: probability of flipping each crop from left to right.
        mean: mean of the gray levels in [0, 1], for normalization.
        std: standard deviation of the gray levels in [0, 1], for normalization.
        blur_sigma: smallest and largest standard deviation of the blur in pixels; published for crops of 224 pixels.
        distorter: distortion of every crop; none by default.
        mode: interpolation, "bilinear" or "bicubic".

    Raises:
        ValueError: if a probability is outside [0, 1], a share is outside (0, 1], or there is no small crop.

    >>> views = RandDINOViewsd(image_size=32, local_size=16, local_crops=3).set_random_state(0)
    >>> sample = views({"image": torch.zeros(1, 80, 64)})
    >>> {key: tuple(value.shape) for key, value in sample.items()}
    {'view_1': (1, 32, 32), 'view_2': (1, 32, 32), 'local_views': (3, 1, 16, 16)}
    """

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        image_size: int | Sequence[int] = 224,
        local_size: int | Sequence[int] = 96,
        *,
        area: tuple[float, float] = (0.25, 1.0),
        local_area: tuple[float, float] = (0.05, 0.25),
        local_crops: int = 8,
        flip_prob: float = 0.0,
        mean: float = CHEST_MEAN,
        std: float = CHEST_STD,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        distorter: RandDistort | RandCutSwap | None = None,
        mode: Literal["bilinear", "bicubic"] = "bicubic",
    ) -> None:
        super().__init__(
            keys,
            image_size,
            area=area,
            flip_prob=flip_prob,
            mean=mean,
            std=std,
            appearance=asymmetric_appearances(blur_sigma),
            distorter=distorter,
            mode=mode,
        )
        if local_crops < 1:
            raise ValueError(f"local_crops must be at least 1, got {local_crops}; DINO has 8")
        check_area("local_area", local_area)
        self.local_size = local_size
        self.local_area = (local_area[0], local_area[1])
        self.local_appearances = (RandAppearance(blur_sigma=blur_sigma, blur_prob=0.5),) * local_crops
        self.local_draws: tuple[ViewDraw, ...] = ()

    def randomize(self, data: Sequence[int]) -> None:
        """Draw all crops of an image of spatial shape ``data`` into ``draws`` and ``local_draws``."""
        super().randomize(data)
        self.local_draws = tuple(
            self.draw_view(data, appearance, self.local_area, self.local_size) for appearance in self.local_appearances
        )

    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        """Draw and make all crops of one image."""
        large = super().views(pixels)
        small = (alter_view(cut_view(pixels, draw, self.local_size, self.mode), draw) for draw in self.local_draws)
        return {**large, LOCAL_VIEWS: torch.stack([self.normalize(crop) for crop in small])}


class DINOMethod(TeacherStudentMethod):
    r"""Self-distillation without labels: the student's views follow the teacher's large views.

    The mean of the last feature map goes through a head to scores of K prototypes, :math:`s` of the student and
    :math:`t` of its moving average, the teacher. Views 1 and 2 are large, views 3 to 2 + V are small, and :math:`c` is
    the running mean of t. The term "distillation" is

    .. math:: -\frac{1}{2 (V + 1)} \sum_{u = 1}^{2} \sum_{v \ne u}
        \mathrm{softmax}\Big(\frac{t(u) - c}{\tau_t}\Big) \cdot \log \mathrm{softmax}\Big(\frac{s(v)}{\tau_s}\Big)

    averaged over the batch: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021,
    arXiv:2104.14294, equation 3. Sharpening (:math:`\tau_t < \tau_s`) and centering together prevent a collapse. The
    teacher's temperature rises linearly with the epoch during a warm-up. :class:`AdamV2Method` learns localizability
    with the same loss.

    Differs from the paper: the embedding of a ViT is the mean of its patches and not a class token, as in all methods
    here; the teacher is in evaluation mode; the center moves once per optimizer step.

    Args:
        backbone: 2D or 3D backbone that takes images of several sizes; ViT-S/16 in the paper.
        num_prototypes: number of prototypes K; ln K is the chance level of the term.
        head_features: width of the head's hidden layers.
        bottleneck_features: width of the head's last hidden layer, which is scaled to unit length.
        student_temperature: :math:`\tau_s`.
        teacher_temperature: :math:`\tau_t` after the warm-up.
        warmup_teacher_temperature: :math:`\tau_t` in the first epoch.
        warmup_temperature_epochs: length of the warm-up in epochs; 0 starts with ``teacher_temperature``.
        center_momentum: weight of the old center of the teacher's scores.
        frozen_prototype_epochs: epochs at the start in which the prototypes get no gradient.

    Raises:
        ValueError: if a number is out of range, or (when called) the views differ in shape.

    >>> from monai_anat.networks import ViTBackbone
    >>> method = DINOMethod(ViTBackbone(image_size=32, embed_dim=24, depth=1, num_heads=3), num_prototypes=32)
    >>> image = torch.rand(2, 1, 32, 32)
    >>> batch = {"view_1": image, "view_2": image, "local_views": torch.rand(2, 8, 1, 16, 16)}
    >>> sorted(method(batch, Progress(0, 2, 0, 2)))
    ['distillation']
    """

    views_name = "RandDINOViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_prototypes: int = 65536,
        head_features: int = 2048,
        bottleneck_features: int = 256,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        warmup_teacher_temperature: float = 0.04,
        warmup_temperature_epochs: int = 30,
        center_momentum: float = 0.9,
        frozen_prototype_epochs: int = 1,
    ) -> None:
        super().__init__()
        check_temperatures(
            student_temperature=student_temperature,
            teacher_temperature=teacher_temperature,
            warmup_teacher_temperature=warmup_teacher_temperature,
        )
        if min(warmup_temperature_epochs, frozen_prototype_epochs) < 0:
            raise ValueError(
                "warmup_temperature_epochs and frozen_prototype_epochs must be at least 0, got "
                f"{warmup_temperature_epochs} and {frozen_prototype_epochs}"
            )
        self.loss_weights = {"distillation": 1.0}
        self.find_unused_parameters = frozen_prototype_epochs > 0
        self.warmup_teacher_temperature = warmup_teacher_temperature
        self.warmup_temperature_epochs = warmup_temperature_epochs
        self.backbone = backbone
        self.teacher = nn.ModuleDict({"backbone": frozen_copy(backbone)})
        self.distillation = SelfDistillation(
            backbone.num_features,
            num_prototypes,
            hidden_features=head_features,
            bottleneck_features=bottleneck_features,
            student_temperature=student_temperature,
            teacher_temperature=teacher_temperature,
            center_momentum=center_momentum,
            frozen_epochs=frozen_prototype_epochs,
        )

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute "distillation" of ``view_1``, ``view_2`` (B, C, H, W[, D]) and ``local_views``.

        Args:
            batch: collated items of :class:`RandDINOViewsd`.
            progress: current position; its epoch sets the teacher's temperature and freezes the prototypes.

        Returns:
            The unweighted term.

        Raises:
            KeyError: if a view is missing.
            ValueError: if the views differ in shape.
        """
        views = self.get_tensors(batch, VIEW_1, VIEW_2, LOCAL_VIEWS)
        student, teacher = embed_views(self.backbone, self.teacher["backbone"], *views)
        pairs = distinct_pairs(2, len(student))
        temperature = self.teacher_temperature_at(progress)
        return {"distillation": self.distillation(student, teacher, pairs, progress.epoch, temperature)}

    def teacher_temperature_at(self, progress: Progress) -> float:
        """Compute the teacher's temperature, which is constant within an epoch and rises over the warm-up.

        Args:
            progress: current position of training.

        Returns:
            The temperature.
        """
        rise = self.warmup_temperature_epochs - 1  # the first and the last epoch of the warm-up have the end values
        final = self.distillation.teacher_temperature
        return linear(progress.epoch, rise, self.warmup_teacher_temperature, final)

    def after_step(self, progress: Progress) -> None:
        """Move the center of the teacher's scores."""
        self.distillation.update_center()

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the teacher's backbone, which is better than the student's (section 5.2 of the paper)."""
        return {"encoder": self.teacher["backbone"]}
