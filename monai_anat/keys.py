"""What a sample or a batch holds, in one place.

Every transform, method and handler spells these keys through the names below, so a typo is an ``AttributeError``
at import and not a ``KeyError`` after an hour.

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
    "ORDER",
    "PAIR_COUNT",
    "PARTS",
    "PHASE",
    "QUADRANTS",
    "TARGET",
    "VIEW_1",
    "VIEW_2",
    "VISIBLE",
    "WINDOWS",
]

#: the radiograph or volume as it was loaded, (C, H, W[, D])
IMAGE = "image"
#: a mask (C, H, W[, D]) or class labels
LABEL = "label"
#: what the network sees of the first and the second crop, (C, H, W[, D])
VIEW_1 = "view_1"
VIEW_2 = "view_2"
#: (V, C, h, w) small crops, which only the student sees
LOCAL_VIEWS = "local_views"
#: (P, C, H, W) the parts that the first view consists of, row by row
PARTS = "parts"
#: the clean, unshuffled first view, which the network restores
TARGET = "target"
#: the two crops with another contrast, brightness and sharpness, (C, H, W[, D])
AUGMENTED_1 = "augmented_1"
AUGMENTED_2 = "augmented_2"
#: (2 * 2^d, C, h, w[, d]) the quadrants of the first, then of the second crop; in each the first axis runs fastest
QUADRANTS = "quadrants"
#: (2, d) first cell of the window of the first and of the second crop that the network is shown
WINDOWS = "windows"
#: (N,) permutation: position j of the shuffled view shows original cell ``order[j]``
ORDER = "order"
#: (N,) index in view 2 of the cell that shows the same anatomy as cell i of view 1, or -1
CORRESPONDENCE = "correspondence"
#: (N,) True for the cells of the view that are hidden from the network, and (K,) the numbers of those that are not
MASK = "mask"
VISIBLE = "visible"
#: (2,) cells (row, column) from the first cell of a large crop to that of a small one
CROP_OFFSET = "crop_offset"
#: the sample's number in its dataset, and the phase of a phased method; both written by the dataset
INDEX = "index"
PHASE = "phase"
#: matched pairs per micro-batch, averaged over processes and micro-batches; written by the trainer
PAIR_COUNT = "pair_count"
#: hidden cells per micro-batch, likewise
MASK_COUNT = "mask_count"
