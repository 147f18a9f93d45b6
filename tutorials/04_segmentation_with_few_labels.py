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
# # Segmentation with few labels
#
# Outlining lungs takes a reader minutes per image, so labels are scarce. Does an encoder that was pre-trained on
# unlabeled radiographs need fewer of them? This tutorial pre-trains an encoder for about a minute, fine-tunes it on 1
# and 6 labeled images, and compares it with the same network from scratch, on patients that neither has seen. The point
# is how to compare, as much as the result.

# %%
import warnings

warnings.filterwarnings("ignore")

import json
from pathlib import Path

import numpy as np
import torch
from IPython.display import Image

from monai_anat import data, engines, evaluation, handlers, methods, networks, schedules, visualize

_ = torch.manual_seed(0)


def show(figure, dpi=80):
    return Image(visualize.encode_png(figure, dpi=dpi))


# %% [markdown]
# ## Pre-training without labels
#
# PEAC on the 200 radiographs that ship with the package, as in tutorial 01 but shorter.

# %%
loading = data.radiograph_preprocessing(152, as_uint8=True)
images = [loading(item) for item in data.pretraining_datalist()]
views = methods.RandPEACViewsd(grid_size=14, cell_size=8, margin=4)
backbone = networks.ViTBackbone(image_size=112, patch_size=8, embed_dim=128, depth=4, num_heads=2)
method = methods.PEACMethod(backbone, image_size=112, global_dim=128, local_dim=32)
trainer = engines.SSLTrainer(
    device="cpu",
    max_epochs=9,
    train_data_loader=data.resumable_loader(data.SeededDataset(images, views, seed=0), batch_size=10, seed=0),
    method=method,
    optimizers=engines.build_optimizers(method, "adamw", lr=1e-3, weight_decay=0.05),
    schedules={"lr": schedules.CosineSchedule(1e-3, warmup_epochs=2)},
    train_handlers=[handlers.TeacherEMA(schedules.CosineSchedule(0.98, 1.0))],
)
trainer.run()

# %% [markdown]
# ## Labels
#
# 41 patients from which the labeled images are drawn, 8 to choose the learning rate, 16 images to report. No patient is
# in two of the lists. The protocol refuses lists that share a patient.

# %%
training, validation, test = (data.segmentation_datalist(split) for split in ("training", "validation", "test"))
drawn = evaluation.load_cases(data.take_shots(training, 6, seed=0), 112)
captions = ["the one label of draw 0", *["added for six"] * 5]
show(visualize.draw_segmentations(drawn.images, drawn.labels, captions=captions), dpi=90)

# %% [markdown]
# ## A fair comparison
#
# `FewShotCurve` fine-tunes with every number of labels, and again with the encoder *frozen*, so that only the decoder
# learns. Both arms get the same images in the same order, the same augmentation, the same initial decoder, the same
# number of steps, and the same grid of learning rates. Each arm uses the rate that is best on the validation patients;
# test patients are measured with that rate only. There are three draws of training images, because with one label the
# result depends on which image it is.
#
# 40 steps keep this tutorial short. They are far too few for the from-scratch arm to converge, so a real comparison
# needs many more.

# %%
protocol = evaluation.FewShotCurve(
    shots=(1, 6),
    few_shot={
        "seeds": (0, 1, 2),
        "steps": 40,
        "learning_rates": (1e-3, 3e-3),
        "selection_seeds": 1,
        "progress": False,
    },
    output_dir="out/tutorial_04",
)
encoder = evaluation.FrozenEncoder(method.export_networks()["encoder"], image_size=112)
result = protocol.run(encoder, training, validation, test)

# %% [markdown]
# ## Dice, with intervals
#
# The interval covers the draws of training images and the test patients.

# %%
settings = [f"{labels}, {mode}" for labels in result.extra["n_labels"] for mode in ("frozen", "fine-tuned")]
arms = {"pre-trained": result.metrics, "scratch": result.baselines["scratch"]}
for setting in settings:
    for name, metrics in arms.items():
        metric, distance = metrics[f"dice/{setting}"], metrics[f"hd95/{setting}"]
        rate = result.extra["learning_rates"][setting][name]
        print(
            f"{setting:22} {name:12} Dice {metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f})   "
            f"HD95 {distance.value:.3f} {distance.unit}   learning rate {rate:g}"
        )

# %%
groups = {
    f"{setting}: Dice": {
        name: (metrics[f"dice/{setting}"].value, metrics[f"dice/{setting}"].low, metrics[f"dice/{setting}"].high)
        for name, metrics in arms.items()
    }
    for setting in settings
}
figure = visualize.draw_intervals(groups)
low = min(axes.get_xlim()[0] for axes in figure.axes)
high = max(axes.get_xlim()[1] for axes in figure.axes)
for axes in figure.axes:
    axes.set_xlim(low, high)  # one scale for all
show(figure, dpi=90)

# %% [markdown]
# ## Which difference is real?
#
# Two intervals can overlap although one arm is better in nearly every patient. Both arms were measured on the same
# patients and draws, so the *difference* needs an interval. If it contains 0, these data do not decide. Four
# comparisons are made here, and the intervals are not corrected for that.

# %%
for setting in settings:
    found = result.comparisons["scratch"][f"dice/{setting}"]
    verdict = {"first": "pre-trained ahead", "second": "scratch ahead", None: "open"}[found.ahead]
    interval = f"{found.low:+.3f} to {found.high:+.3f}"
    print(f"{setting:22} pre-trained minus scratch {found.difference:+.3f} ({interval})  {verdict}")

# %% [markdown]
# ## Masks
#
# A mean hides failures. These are masks with one label and a frozen encoder, from the worst to the best test patient of
# the pre-trained encoder; scratch above, pre-trained below. Filled: prediction. Dashed: the reader's outline.

# %%
folder = Path("out/tutorial_04/1_frozen")
saved = np.load(folder / "few_shot_masks.npz")
scores = {
    name: np.array(arm["draws"][0]["dice_by_image"])
    for name, arm in json.loads((folder / "few_shot.json").read_text())["arms"].items()
}
order = scores["pre-trained"].argsort()
shown = order[np.linspace(0, len(order) - 1, 6).round().astype(int)]
rows = ("scratch", "pre-trained")
figure = visualize.draw_segmentations(
    np.concatenate([saved["images"][shown]] * 2),
    np.concatenate([saved[f"{name}/0"][shown] for name in rows]),
    np.concatenate([saved["labels"][shown]] * 2),
    captions=[f"{name} {score:.2f}" for name in rows for score in scores[name][shown]],
)
show(figure)

# %% [markdown]
# ## Conclusion
#
# In the run shown here, the pre-trained encoder has a slightly higher mean Dice in three of four settings. All four
# differences are *open*: their intervals contain 0. So this run does not show that a minute of pre-training saves
# labels, and it does not show the opposite.
#
# Three things would narrow the intervals or enlarge the effect:
#
# - *more draws and more test patients*: with one label, the result depends on which image it is;
# - *a harder task*: lungs are large, dark, and always in the same place. A decoder on random features finds most of
#   them;
# - *longer pre-training on more images*.
#
# And one thing is needed before claiming that pre-training saves labels: *fine-tune both arms until they stop
# improving* on the validation patients.
#
# For your own encoder and masks, `evaluation.FewShotCurve` takes any backbone and any MONAI datalist. The command
# `python -m monai_anat evaluate ENCODER --data DATALIST --protocols few-shot` does the same. To keep the fine-tuned
# network, use the bundle `cxr_lung_segmentation`.
