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
# Outlining lungs takes a reader minutes per image, so labels are what one has least of. Does an encoder that learned
# from unlabeled radiographs need fewer of them? This tutorial pre-trains one for about a minute, gives it 1 and 6
# labeled images, and compares it with the same network from scratch, fine-tuned and frozen, on patients that none of
# them has seen. The point is as much how to compare as what comes out.

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
# ## The labels
#
# 41 patients to draw the few labeled images from, 8 to choose the learning rate on, 16 to report. No patient is in two
# of the lists; the protocol refuses lists that share one.

# %%
training, validation, test = (data.segmentation_datalist(split) for split in ("training", "validation", "test"))
drawn = evaluation.load_cases(data.take_shots(training, 6, seed=0), 112)
captions = ["the one label of draw 0", *["added for six"] * 5]
show(visualize.draw_segmentations(drawn.images, drawn.labels, captions=captions), dpi=90)

# %% [markdown]
# ## Equal terms
#
# `FewShotCurve` fine-tunes on every number of labels, and once more with the encoder *frozen*, so that only the decoder
# learns. Both arms, pre-trained and from scratch, get the same images in the same order with the same augmentation, the
# same initial decoder, the same steps and the same grid of learning rates. Each arm takes the rate that is best on the
# validation patients; test patients are looked at with that rate only. Three draws of training images, since with one
# label much depends on which one it is. Real runs take more steps, rates and draws.

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
# The interval covers both the draws of training images and the test patients.

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
# Two intervals may overlap although one arm is ahead in nearly every patient: both arms were measured on the same
# patients and draws, so it is the *difference* that needs an interval. Where it holds 0, these data do not say which
# arm is better. Four comparisons are made here, and the intervals are not corrected for that.

# %%
for setting in settings:
    found = result.comparisons["scratch"][f"dice/{setting}"]
    verdict = {"first": "pre-trained ahead", "second": "scratch ahead", None: "open"}[found.ahead]
    interval = f"{found.low:+.3f} to {found.high:+.3f}"
    print(f"{setting:22} pre-trained minus scratch {found.difference:+.3f} ({interval})  {verdict}")

# %% [markdown]
# ## Masks
#
# A mean hides what goes wrong. One label, encoder frozen: test patients from the worst to the best of the pre-trained
# encoder, with scratch above and pre-trained below. Filled is what was predicted, dashed the reader's outline.

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
# ## What to make of it
#
# In the run that is shown here the pre-trained encoder is a little ahead in all four settings, most where it matters
# most, with one label and a frozen encoder. And all four differences are *open*: their intervals hold 0. So this run
# does not show that a minute of pre-training saves labels. It does not show that it saves none either, since the
# intervals reach far to the right. Three things would make them narrower or the effect larger:
#
# - *more draws and more test patients*: 3 and 16 are few, and with one label much hangs on which image it is;
# - *a harder task*: lungs are large, dark and always in the same place. A decoder on random features that are never
#   trained finds most of them already;
# - *longer pre-training on more images*. `docs/results.md` has the runs that were made, and what they showed.
#
# Your own encoder and your own masks: `evaluation.FewShotCurve` takes any backbone and any MONAI datalist, and
# `python -m monai_anat evaluate ENCODER --data DATALIST --protocols few-shot` the same from the command line. To
# keep the network that was fine-tuned, use the bundle `cxr_lung_segmentation`.
