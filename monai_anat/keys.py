"""Keys of samples and batches.

Transforms, methods and handlers use these names, so that a typo fails at import and not after an hour of training.

>>> from monai_anat.keys import VIEW_1
>>> VIEW_1
'view_1'
"""

__all__ = [
    "AUGMENTED_1",
    "AUGMENTED_2",
    "CORRESPONDENCE",
    "CROP_OFFSET",
    "IMAGE",
    "INDEX",
    "LABEL",
    "LOCAL_VIEWS",
    "MASK",
    "MASK_COUNT",
    "MATCH",
    "MATCH_COUNT",
    "ORDER",
    "PAIR_COUNT",
    "PARTS",
    "PHASE",
    "POSITION_1",
    "POSITION_2",
    "QUADRANTS",
    "SUBCELLS",
    "TARGET",
    "VIEW_1",
    "VIEW_2",
    "VISIBLE",
    "WINDOWS",
]

#: loaded radiograph or volume (C, H, W[, D])
IMAGE = "image"
#: mask (C, H, W[, D]) or class labels
LABEL = "label"
#: first and second view of an image, as the network sees them (C, H, W[, D])
VIEW_1 = "view_1"
VIEW_2 = "view_2"
#: small crops (V, C, h, w) for the student alone
LOCAL_VIEWS = "local_views"
#: parts (P, C, H, W) of the first view, row by row
PARTS = "parts"
#: clean, unshuffled first view, which the network restores
TARGET = "target"
#: the two views with changed contrast, brightness and blur (C, H, W[, D])
AUGMENTED_1 = "augmented_1"
AUGMENTED_2 = "augmented_2"
#: quadrants (2 * 2^d, C, h, w[, d]) of the first, then of the second view; the first axis runs fastest
QUADRANTS = "quadrants"
#: first cell (2, d) of the visible window of the first and of the second view
WINDOWS = "windows"
#: permutation (N,): position j of the shuffled view shows original cell ``order[j]``
ORDER = "order"
#: map (N,) from each cell of view 1 to its matching cell in view 2, or to -1
CORRESPONDENCE = "correspondence"
#: the same map as ``CORRESPONDENCE``, also for samples whose first view is shuffled
MATCH = "match"
#: centers (N, d) of the cells of each view, in [0, 1] of the whole image
POSITION_1 = "position_1"
POSITION_2 = "position_2"
#: random position (N, d) within each cell of view 1, in [0, 1)
SUBCELLS = "subcells"
#: mask (N,), True for hidden cells, and indices (K,) of visible cells
MASK = "mask"
VISIBLE = "visible"
#: offset (2,) in cells (row, column) from the first cell of a large crop to that of a small one
CROP_OFFSET = "crop_offset"
#: index of the sample in its dataset, and phase of a method with phases; both set by ``SeededDataset``
INDEX = "index"
PHASE = "phase"
#: matched pairs per micro-batch, averaged over processes and micro-batches; set by the trainer
PAIR_COUNT = "pair_count"
#: cells of ``MATCH`` with a match per micro-batch, averaged in the same way
MATCH_COUNT = "match_count"
#: hidden cells per micro-batch, averaged in the same way
MASK_COUNT = "mask_count"
