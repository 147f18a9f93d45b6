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
# # Your own method in 60 lines
#
# A method of this package defines the network's input and its loss terms, and nothing else. Optimizers, schedules,
# several processes, checkpoints and logs come from the trainer. This tutorial writes a method from scratch, checks it
# with the tests that all methods of the package pass, trains it for a minute, and measures what it learned.
#
# The idea is context prediction (Doersch et al., ICCV 2015, arXiv:1505.05192), and radiographs suit it. Cut two windows
# from one radiograph and predict the offset between them. To solve this, a network has to represent that a clavicle is
# above a diaphragm and that the heart is on the left.

# %%
import warnings

warnings.filterwarnings("ignore")

import inspect
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from IPython.display import Image
from matplotlib.patches import Rectangle
from torch import nn
from torch.nn import functional as F

import monai_anat
from monai_anat import data, engines, evaluation, handlers, methods, networks, schedules, transforms, visualize
from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import VIEW_1, VIEW_2
from monai_anat.methods.base import mean_token
from monai_anat.transforms.resized_crops import draw_resized_crop_box
from monai_anat.visualize.figures import PALETTE

# %% [markdown]
# ## Input
#
# One transform makes the whole batch item. `RandViewsd` reads and normalizes the image and holds the random state `R`.
# All draws come from `R`, in `randomize`, so a sample is the same in any process and after any interruption. The draw
# is kept, which helps in tests and pictures.


# %%
class RandRelativePlaceViewsd(methods.RandViewsd):
    """Two square windows of one radiograph, and the offset between them."""

    def __init__(self, keys="image", image_size=64, area=(0.06, 0.15), mean=CHEST_MEAN, std=CHEST_STD):
        super().__init__(keys, mean, std)
        self.image_size = image_size
        self.area = area
        self.boxes = np.zeros((2, 2, 2), dtype=np.int64)  # of each window: corner, sides

    def randomize(self, data):
        boxes = [draw_resized_crop_box(self.R, data, self.area, ratio=(1.0, 1.0)) for _ in range(2)]
        self.boxes = np.stack(boxes)

    def views(self, pixels):
        shape = tuple(pixels.shape[1:])
        self.randomize(shape)
        first, second = ((corner + sides / 2) / shape for corner, sides in self.boxes)
        windows = [self.normalize(transforms.resized_crop(pixels, box, self.image_size)) for box in self.boxes]
        return {VIEW_1: windows[0], VIEW_2: windows[1], "offset": torch.tensor(second - first, dtype=torch.float32)}


# %% [markdown]
# ## Loss
#
# `forward` returns named, unweighted terms; `loss_weights` holds the weights. With a place $p = W f$ for the embedding
# $f$ of a window, the only term is the mean square of $(p_2 - p_1) - \mathrm{offset}$. The network never receives the
# position of a window, only the offset between two. So places are defined up to a shift, and a bias in $W$ would
# cancel.


# %%
class RelativePlaceMethod(methods.SSLMethod):
    """Predict the offset between two windows of one radiograph."""

    views_name = "RandRelativePlaceViewsd"

    def __init__(self, backbone):
        super().__init__()
        self.loss_weights = {"offset": 1.0}
        self.backbone = backbone
        self.place_head = nn.Linear(backbone.num_features, 2, bias=False)

    def forward(self, batch, progress):
        view_1, view_2, offset = self.get_tensors(batch, VIEW_1, VIEW_2, "offset")
        place_1, place_2 = self.places(view_1, view_2)
        return {"offset": F.mse_loss(place_2 - place_1, offset)}

    def places(self, *views):
        feature_maps = self.forward_together(self.backbone, *views)  # one pass, wherever that is exact
        # single precision also under autocast
        return [self.place_head(mean_token(feature_map)).float() for feature_map in feature_maps]

    def export_networks(self):
        return {"encoder": self.backbone}


# %% [markdown]
# That is the whole method, in less than 60 lines. `self.get_tensors` raises a clear error if a batch lacks a key.
# `export_networks` names the networks to keep after training. Further hooks of the same class support a teacher
# (`TeacherStudentMethod`), a queue (`after_step`), terms that are not means over samples (`loss_denominators`), and
# stages (`progress.stage`). Most methods need none or one of them.
#
# ## Look at it
#
# The first thing to do with every new method is to look at the network's input.

# %%
loading = data.radiograph_preprocessing(192, as_uint8=True)
images = [loading(item) for item in data.pretraining_datalist()]
views = RandRelativePlaceViewsd()
figure, axes = visualize.picture_panels(3, 3, panel_size=2.2)
for row in range(3):
    sample = views.set_random_state(row)(dict(images[row]))
    panels = [images[row]["image"], sample[VIEW_1], sample[VIEW_2]]
    down, right = (100 * sample["offset"]).round().int().tolist()
    titles = ["radiograph", "window 1", f"window 2: {down:+d} % down, {right:+d} % right"]
    for column, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        visualize.show_gray(axes[row, column], panel, title)
    for (corner, sides), color in zip(views.boxes, PALETTE, strict=False):
        frame = {"fill": False, "edgecolor": color, "linewidth": 2}
        axes[row, 0].add_patch(Rectangle(corner[::-1], *sides[::-1], **frame))
Image(visualize.encode_png(figure, dpi=80))

# %% [markdown]
# ## Check it
#
# A checkout of the repository contains a contract that every method passes: finite terms with weights, gradients for
# every trainable parameter, a loss that falls in twenty steps, a complete state dict, half precision, micro-batches
# that equal the joint batch, parameter groups, and an encoder that can be saved and rebuilt. It needs a *case*: a tiny
# method, its views, and an image by seed. (In the package, the case is in the method's test file, and the suite finds
# it.)

# %%
sys.path.insert(0, str(Path(monai_anat.__file__).parents[1] / "tests" / "contracts"))
import pytest
import test_methods as contract
from method_cases import DEFAULTS


def tiny_method():
    return RelativePlaceMethod(networks.ViTBackbone(image_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2))


case = SimpleNamespace(
    **DEFAULTS,
    name="RelativePlaceMethod",
    method=tiny_method,
    views=lambda: RandRelativePlaceViewsd(image_size=16),
    image=lambda seed: np.random.RandomState(seed).randint(0, 256, (1, 48, 40)).astype(np.uint8),
)
for name, test in vars(contract).items():
    parameters = list(inspect.signature(test).parameters) if name.startswith("test_") else []
    if parameters[:1] == ["case"] and "public" not in name:  # the names of the package are public, ours is not
        torch.manual_seed(0)
        try:
            test(*[case, Path(tempfile.mkdtemp())][: len(parameters)])
            verdict = "passes"
        except pytest.skip.Exception as reason:
            verdict = f"does not apply ({reason})"
        print(f"{name.removeprefix('test_').replace('_', ' '):75} {verdict}")

# %% [markdown]
# A contract is useful if it finds mistakes. Give the head the bias that cancels:


# %%
def method_with_bias():
    method = tiny_method()
    method.place_head = nn.Linear(24, 2, bias=True)
    return method


mistaken = SimpleNamespace(**{**vars(case), "method": method_with_bias})
try:
    contract.test_gradients_reach_the_student_and_never_the_teacher(mistaken)
except AssertionError as error:
    print("the contract fails:", str(error).splitlines()[0])

# %% [markdown]
# ## Train it
#
# The trainer takes the method like any other. With `torchrun`, the same lines train on many GPUs. Any backbone of the
# package works. Here it is a small convolutional one, which learns faster from 200 radiographs than a transformer.

# %%
_ = torch.manual_seed(0)
# a shallow network needs no small initial layer scale
backbone = networks.ConvNeXtBackbone(depths=(2, 2, 4), dims=(24, 48, 96), layer_scale=1.0)
method = RelativePlaceMethod(backbone)
test_images = [loading(item) for item in data.segmentation_datalist("test")]  # of other patients


@torch.no_grad()
def places_of(windows):
    """Predicted places (N, 2) of normalized windows (N, 64, 64), up to a common shift."""
    method.eval()
    (places,) = method.places(windows)
    method.train()
    return places


def explained(count=16):
    """Share of the variance of the offsets of test patients that the method explains: rows, columns."""
    samples = [views.set_random_state(seed)(dict(image)) for seed in range(count) for image in test_images]
    first, second, offset = (torch.stack([sample[key] for sample in samples]) for key in (VIEW_1, VIEW_2, "offset"))
    error = places_of(second) - places_of(first) - offset
    return [round(share, 2) for share in (1 - error.square().mean(0) / offset.square().mean(0)).tolist()]


def window_neighbors():
    """k-NN accuracy of six landmarks from window embeddings, with neighbors in other patients."""
    frozen = evaluation.FrozenEncoder(backbone, image_size=64, mean=CHEST_MEAN, std=CHEST_STD)
    return evaluation.LocalizabilityProbe(picture_points=0).run(frozen, data.segmentation_datalist("test"))


before = {"explained": explained(), "neighbors": window_neighbors()}
trainer = engines.SSLTrainer(
    device="cpu",
    max_epochs=40,
    train_data_loader=data.resumable_loader(data.SeededDataset(images, views, seed=0), batch_size=20, seed=0),
    method=method,
    optimizers=engines.build_optimizers(method, "adamw", lr=2e-3, weight_decay=0.05),
    schedules={"lr": schedules.CosineSchedule(2e-3, warmup_epochs=2)},
    train_handlers=[handlers.TrainingLog("out/tutorial_06", every=20, tensorboard=False, progress_bar=False)],
)
trainer.run()
lines = [json.loads(line) for line in Path("out/tutorial_06/metrics.jsonl").read_text().splitlines()]
Image(visualize.encode_png(visualize.draw_curves(lines, ["offset"]), dpi=80))

# %% [markdown]
# ## What did it learn?
#
# First, its own task, on windows of patients that it has never seen: the share of the variance of the offsets that it
# explains. 1 is perfect; 0 is the constant answer "at the same place".

# %%
after = {"explained": explained(), "neighbors": window_neighbors()}
for when, found in {"before": before, "after": after}.items():
    rows, columns = found["explained"]
    print(f"{when:7} rows {rows:+.2f}, columns {columns:+.2f}")

# %% [markdown]
# A picture shows more. Windows are cut from a test patient on a regular grid (dots). The network sees them one by one
# and predicts a place for each (lines). On the right, every window is pasted at its predicted place.


# %%
def puzzle(pixels, count=6, side=60):
    """True places of windows on a grid (N, 2), their predicted places, and the image reassembled."""
    height, width = pixels.shape[1:]
    corners = torch.cartesian_prod(*[torch.linspace(0, size - side, count).round().int() for size in (height, width)])
    boxes = [np.array([corner, (side, side)]) for corner in corners.tolist()]
    windows = torch.stack([views.normalize(transforms.resized_crop(pixels, box, 64)) for box in boxes])
    true = (corners + side / 2) / torch.tensor([height, width])
    placed = places_of(windows)
    placed = placed - placed.mean(0) + true.mean(0)  # places are defined up to a shift
    total, weight = torch.zeros(2, height + 2 * side, width + 2 * side)
    targets = (placed * torch.tensor([height, width]) + side / 2).round().int()  # corners on the canvas
    targets = targets.clamp(torch.tensor(0), torch.tensor([height, width]) + side)
    for (top, left), (row, column) in zip(targets.tolist(), corners.tolist(), strict=True):
        total[top : top + side, left : left + side] += pixels[0, row : row + side, column : column + side]
        weight[top : top + side, left : left + side] += 1
    return true, placed, (total / weight.clamp_min(1))[side:-side, side:-side]


figure, axes = visualize.picture_panels(2, 2, panel_size=3.4)
for row, image in enumerate(test_images[:2]):
    pixels = torch.as_tensor(np.asarray(image["image"]))
    true, placed, together = puzzle(pixels)
    visualize.show_gray(axes[row, 0], pixels, "true and predicted places" if row == 0 else "")
    scale = torch.tensor(pixels.shape[1:])
    for start, end in zip(true * scale, placed * scale, strict=True):
        axes[row, 0].plot(*zip(start.tolist()[::-1], end.tolist()[::-1], strict=True), c=PALETTE[0], lw=1.4)
    axes[row, 0].scatter(*(true * scale).T.flip(0), s=14, color=PALETTE[1], zorder=3)
    visualize.show_gray(axes[row, 1], together, "reassembled from the predictions" if row == 0 else "")
Image(visualize.encode_png(figure, dpi=80))

# %% [markdown]
# Second, a task that it was not trained for. Do windows of one landmark have similar embeddings, whoever the patient
# is? `LocalizabilityProbe` searches the neighbors of each window in *other* patients, and compares with random weights.

# %%
for when, found in {"before": before, "after": after}.items():
    result = found["neighbors"]
    value = result.metrics["knn_accuracy"]
    ahead = result.comparisons["random initialization"]["knn_accuracy"]
    print(
        f"{when:7} {value.value:.2f} ({value.low:.2f} to {value.high:.2f}); minus random weights "
        f"{ahead.difference:+.2f} ({ahead.low:+.2f} to {ahead.high:+.2f})"
    )
position = after["neighbors"].baselines["position"]["knn_accuracy"].value
print(f"chance {1 / 6:.2f}; position of the window alone {position:.2f}")

# %% [markdown]
# ## Conclusion
#
# In the run shown here, a minute of training explains 71 % of the variance of the rows and 52 % of the columns between
# windows of patients that the network has never seen. Up and down are easy to distinguish. Right and left look alike,
# so the predictions tend to the middle, where an uncertain answer costs least. Windows of one landmark became more
# similar although the network was not trained for it: the k-NN accuracy rises from 0.33 to 0.55, and only the latter is
# clearly above random weights.
#
# This is one run on the 10 test patients of the sample. It says nothing yet about other tasks: tutorials 04, 05 and 07
# show how to measure those. The method's limit follows from its task: nothing that the place does not determine is
# learned, so nothing about disease.
#
# ## Add it to the package
#
# The code above is nearly a pull request. The page "Add a method" of the documentation has the details:
#
# 1. `monai_anat/methods/relative_place.py`: both classes, with docstrings that cite the paper, and their export;
# 2. `tests/unit/methods/test_relative_place.py`: the case from above as `CASE`, and the term once more, slowly, from
#    its equation;
# 3. `recipes/pretraining/relative_place.yaml`: the settings; `tools/build_bundles.py` writes the bundle;
# 4. `docs/methods/relative_place.md`, and a line in the changelog.
