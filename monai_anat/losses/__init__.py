"""Loss terms, each a free function over tensors, float32 inside under autocast; and the centre and queue they use."""

from .adversarial import discriminator_loss, generator_loss
from .classification import LabelCrossEntropyLoss, label_cross_entropy
from .consistency import global_consistency, matched_consistency
from .contrastive import KeyQueue, batch_info_nce, pruned_info_nce
from .correlation import correlation_agreement, correlation_redundancy, redundancy_reduction
from .distillation import DistillationCenter, self_distillation
from .matching import matching_cross_entropy
from .multi_view import distinct_pairs, multi_view_distillation
from .ordering import order_cross_entropy
from .part_whole import composition_distance, decomposition_distance
from .restoration import masked_cross_entropy, masked_l1, masked_patch_mse, restoration_mse
from .smooth import smooth_l1
from .vicreg import covariance, invariance, variance, variance_covariance

__all__ = [
    "DistillationCenter",
    "KeyQueue",
    "LabelCrossEntropyLoss",
    "batch_info_nce",
    "composition_distance",
    "correlation_agreement",
    "correlation_redundancy",
    "covariance",
    "decomposition_distance",
    "discriminator_loss",
    "distinct_pairs",
    "generator_loss",
    "global_consistency",
    "invariance",
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
    "variance",
    "variance_covariance",
]
