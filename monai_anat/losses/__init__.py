"""Loss functions of the pre-training methods, and the modules that hold their state.

Every loss is a function of tensors that computes in at least float32, also under autocast.
"""

from monai_anat.losses.adversarial import discriminator_loss, generator_loss
from monai_anat.losses.consistency import global_consistency, matched_consistency
from monai_anat.losses.contrastive import KeyQueue, batch_info_nce, pruned_info_nce
from monai_anat.losses.correlation import correlation_agreement, correlation_redundancy, redundancy_reduction
from monai_anat.losses.cross_entropy import LabelCrossEntropyLoss, label_cross_entropy
from monai_anat.losses.distillation import DistillationCenter, self_distillation
from monai_anat.losses.matching import matching_cross_entropy
from monai_anat.losses.modules import (
    CompositionLoss,
    DecompositionLoss,
    GlobalConsistencyLoss,
    MatchingLoss,
    OrderLoss,
    RedundancyReductionLoss,
    RestorationLoss,
    VarianceCovarianceLoss,
)
from monai_anat.losses.multi_view import distinct_pairs, multi_view_distillation
from monai_anat.losses.ordering import order_cross_entropy
from monai_anat.losses.part_whole import composition_distance, decomposition_distance
from monai_anat.losses.positional_contrast import soft_positional_contrast
from monai_anat.losses.restoration import masked_cross_entropy, masked_l1, masked_patch_mse, restoration_mse
from monai_anat.losses.smooth import smooth_l1
from monai_anat.losses.vicreg import variance_covariance, vicreg_covariance, vicreg_invariance, vicreg_variance
from monai_anat.losses.whitening import token_whitening

__all__ = [
    "CompositionLoss",
    "DecompositionLoss",
    "DistillationCenter",
    "GlobalConsistencyLoss",
    "KeyQueue",
    "LabelCrossEntropyLoss",
    "MatchingLoss",
    "OrderLoss",
    "RedundancyReductionLoss",
    "RestorationLoss",
    "VarianceCovarianceLoss",
    "batch_info_nce",
    "composition_distance",
    "correlation_agreement",
    "correlation_redundancy",
    "decomposition_distance",
    "discriminator_loss",
    "distinct_pairs",
    "generator_loss",
    "global_consistency",
    "label_cross_entropy",
    "masked_cross_entropy",
    "masked_l1",
    "masked_patch_mse",
    "matched_consistency",
    "matching_cross_entropy",
    "multi_view_distillation",
    "order_cross_entropy",
    "pruned_info_nce",
    "redundancy_reduction",
    "restoration_mse",
    "self_distillation",
    "smooth_l1",
    "soft_positional_contrast",
    "token_whitening",
    "variance_covariance",
    "vicreg_covariance",
    "vicreg_invariance",
    "vicreg_variance",
]
