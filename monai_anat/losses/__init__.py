"""Loss terms, each a free function over tensors: no weights, no state, float32 inside under autocast."""

from .consistency import global_consistency, matched_consistency
from .ordering import order_cross_entropy
from .restoration import restoration_mse

__all__ = ["global_consistency", "matched_consistency", "order_cross_entropy", "restoration_mse"]
