"""Loss terms, each a free function over tensors, float32 inside under autocast; and the centre and queue they use."""

from .adversarial import discriminator_loss, generator_loss
from .consistency import global_consistency, matched_consistency
from .contrastive import KeyQueue, pruned_info_nce
from .distillation import DistillationCenter, self_distillation
from .multi_view import distinct_pairs, multi_view_distillation
from .ordering import order_cross_entropy
from .part_whole import composition_distance, decomposition_distance
from .restoration import restoration_mse
from .vicreg import covariance, invariance, variance, variance_covariance

__all__ = [
    "DistillationCenter",
    "KeyQueue",
    "composition_distance",
    "covariance",
    "decomposition_distance",
    "discriminator_loss",
    "distinct_pairs",
    "generator_loss",
    "global_consistency",
    "invariance",
    "matched_consistency",
    "multi_view_distillation",
    "order_cross_entropy",
    "pruned_info_nce",
    "restoration_mse",
    "self_distillation",
    "variance",
    "variance_covariance",
]
