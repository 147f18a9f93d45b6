# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Transforms in your own MONAI pipeline
#
# This tutorial adds grid crops with correspondence, patch shuffling and its inverse, and distortions to a MONAI
# pipeline. They are ordinary MONAI transforms: array and dictionary form, 2D and 3D, for NumPy arrays, tensors and
# `MetaTensor`.

# %%
import warnings

warnings.filterwarnings("ignore")

import torch
from IPython.display import Image
from matplotlib.figure import Figure
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandGaussianNoised, Resized, ScaleIntensityd
from monai.utils import set_determinism

from monai_anat import data, transforms, visualize

# %% [markdown]
# ## A MONAI pipeline with one new transform
#
# `RandDistortd` is the only transform here that is not MONAI's. It draws as in the POPAR and PEAC papers: local pixel
# shuffling, a Bezier map of the gray levels, in-painting or out-painting with noise. `data.RadiographReader` reads
# DICOM, PNG, JPEG, TIFF, NIfTI and MHA to one convention (rows first, air dark, bone bright), so the same chain serves
# all of them.

# %%
chain = Compose(
    [
        LoadImaged("image", reader=data.RadiographReader(), image_only=True),
        EnsureChannelFirstd("image", channel_dim="no_channel"),
        Resized("image", spatial_size=(224, 224)),
        ScaleIntensityd("image"),
        transforms.RandDistortd("image"),
        RandGaussianNoised("image", prob=0.3, std=0.02),
    ]
).set_random_state(0)

radiographs = data.pretraining_datalist()[:8]
images = [chain(item)["image"] for item in radiographs]


def show(pictures, titles, columns=4, size=2.2):
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(size * columns, size * rows))
    for number, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.imshow(torch.as_tensor(picture)[0], cmap="gray")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.tight_layout()
    return Image(visualize.encode_png(figure, dpi=70))


show(images, [f"draw {number}" for number in range(8)])

# %% [markdown]
# ## One distortion at a time
#
# Each distortion is a transform of its own. The defaults are those of the papers.

# %%
plain = Compose(chain.transforms[:4])
image = plain(radiographs[0])["image"]
single = {
    "as it was": lambda pixels: pixels,
    "local pixel shuffle": transforms.RandLocalPixelShuffle(prob=1.0),
    "Bezier intensity": transforms.RandBezierIntensity(prob=1.0),
    "in-painting": transforms.RandInPaint(prob=1.0),
    "out-painting": transforms.RandOutPaint(prob=1.0),
}
pictures = []
for name, transform in single.items():
    if name != "as it was":
        transform.set_random_state(4)
    pictures.append(transform(image))
show(pictures, list(single), columns=5)

# %% [markdown]
# ## Shuffle patches and restore them
#
# `order[j]` is the original patch at position j. `RestorePatches` is the exact inverse.

# %%
shuffle = transforms.RandShufflePatchesd("image", patch_size=32).set_random_state(1)
shuffled = shuffle({"image": image})
restored = transforms.RestorePatches(32)(shuffled["image"], shuffled["order"])
print("restored exactly:", bool((restored == image).all()))
show([image, shuffled["image"], restored], ["original", "shuffled", "restored"], columns=3)

# %% [markdown]
# ## Two crops with correspondence
#
# For contrastive or consistency losses on patches. Other keys are cropped at the same place. Here it is the lung mask,
# so the same crops can serve a segmentation loss.

# %%
item = data.segmentation_datalist("training")[5]
pair_chain = Compose(
    [
        LoadImaged("image", reader=data.RadiographReader(), image_only=True),
        LoadImaged("label", reader=data.RadiographReader(), image_only=True),
        EnsureChannelFirstd(("image", "label"), channel_dim="no_channel"),
        Resized(("image", "label"), spatial_size=(304, 304), mode=("bilinear", "nearest")),
        transforms.RandOverlappingGridCropsd(("image", "label"), grid_size=7, cell_size=32, margin=2),
    ]
).set_random_state(2)
pair = pair_chain(item)
sorted(key for key in pair if "view" in key or key == "correspondence")

# %%
matched = pair["correspondence"] >= 0
cells_1, cells_2 = (transforms.split_cells(torch.as_tensor(pair[f"view_{n}"]), 32, 2) for n in (1, 2))
print(
    f"{int(matched.sum())} of {len(matched)} cells match, each pixel for pixel:",
    bool((cells_1[matched] == cells_2[pair["correspondence"][matched]]).all()),
)
show(
    [pair["view_1"], pair["label_view_1"], pair["view_2"], pair["label_view_2"]],
    ["view 1", "its mask", "view 2", "its mask"],
)

# %% [markdown]
# ## Batches, workers, seeds
#
# Use a `Dataset` and a `DataLoader` as usual. MONAI's loader gives the transforms new random states, drawn from torch's
# generator, and so overrides `set_random_state`. To fix the seed, call `set_determinism` (or `torch.manual_seed`)
# before creating the loader.


# %%
def batch(seed):
    set_determinism(seed)
    images = next(iter(DataLoader(Dataset(radiographs, chain), batch_size=4)))["image"]
    set_determinism(None)  # the rest of the process draws as before
    return images


print(batch(7).shape)
print("the same seed, the same batch:", bool((batch(7) == batch(7)).all()))
print("another seed, the same batch:", bool((batch(7) == batch(8)).all()))

# %% [markdown]
# ## Volumes
#
# The same transforms take volumes (C, H, W, D). Give cell and grid sizes for three axes.

# %%
volume = torch.linspace(0, 1, 48).repeat(1, 48, 48, 1)
shuffled_volume = transforms.RandShufflePatchesd("image", patch_size=(16, 16, 16)).set_random_state(0)(
    {"image": volume}
)
torch.as_tensor(shuffled_volume["image"]).shape, len(shuffled_volume["order"])

# %% [markdown]
# Next: transforms that make all views of a method at once (`methods.RandPEACViewsd` and others, tutorial 01), and
# training with them.
