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
# # PEAC in ten minutes
#
# A chest radiograph is not an arbitrary picture: the heart is on the left, the lungs are on both sides of the
# mediastinum, and the same structure looks alike in every patient. PEAC teaches a network this without a single
# label. This tutorial shows what the network sees, trains it for a few minutes on the radiographs that ship with
# the package, and looks at what it learned.

# %%
import warnings

warnings.filterwarnings("ignore")

import torch
from IPython.display import Image
from matplotlib.figure import Figure

from monai_anat import data, engines, evaluation, handlers, methods, networks, schedules, transforms, visualize

_ = torch.manual_seed(0)

# %% [markdown]
# ## The data
#
# 200 frontal radiographs without labels, and 65 with lung masks, all free (see the attribution file beside them).

# %%
radiographs = data.pretraining_datalist()
loading = data.radiograph_preprocessing(152, as_uint8=True)  # load, upright, short side to 152 px, center crop, bytes
images = [loading(item) for item in radiographs]
len(images), images[0]["image"].shape, images[0]["image"].dtype

# %% [markdown]
# ## Two crops of one grid
#
# A grid of 18 x 18 cells of 8 px is laid over the radiograph. Two views of 14 x 14 cells start at different cells
# of it. So we know, cell for cell, which part of view 2 shows the same anatomy as a part of view 1: that is the
# `correspondence`, -1 where there is none.

# %%
crops = transforms.RandOverlappingGridCropsd("image", grid_size=14, cell_size=8, margin=4).set_random_state(3)
pair = crops(images[0])
matched = pair["correspondence"] >= 0
print(f"{int(matched.sum())} of {len(matched)} cells of view 1 are seen in view 2 too")

# %% [markdown]
# Matching cells are equal pixel for pixel:

# %%
cells_1, cells_2 = (transforms.split_cells(pair[view], 8, 2) for view in ("view_1", "view_2"))
bool((cells_1[matched] == cells_2[pair["correspondence"][matched]]).all())

# %% [markdown]
# ## What the network sees
#
# `RandPEACViewsd` makes the whole batch item in one transform. A coin decides whether view 1 is *distorted* or
# *shuffled*; view 2 stays clean, and `target` is what the network has to restore.

# %%
views = methods.RandPEACViewsd(grid_size=14, cell_size=8, margin=4)
figure = Figure(figsize=(9, 6.5))
for row, seed in enumerate((1, 3)):
    sample = views.set_random_state(seed)(dict(images[row]))
    for column, key in enumerate(("view_1", "view_2", "target")):
        axes = figure.add_subplot(2, 3, 3 * row + column + 1)
        axes.imshow(sample[key][0], cmap="gray")
        axes.set_title(key)
        axes.set_axis_off()
Image(visualize.encode_png(figure, dpi=70))

# %% [markdown]
# ## The method
#
# A student with three heads learns from its own moving average, the teacher. The forward pass returns named terms;
# the trainer adds them up by `loss_weights`.

# %%
backbone = networks.ViTBackbone(image_size=112, patch_size=8, embed_dim=128, depth=4, num_heads=2)
method = methods.PEACMethod(backbone, image_size=112, global_dim=128, local_dim=32)
method.loss_weights

# %% [markdown]
# ## Train
#
# The sampler and the seeds depend on the step alone, so that a run that is stopped goes on exactly where it was.
# Here we train for a few minutes; the bundle `cxr_peac_pretraining` does the same from the command line.

# %%
dataset = data.SeededDataset(images, views, seed=0)
trainer = engines.SSLTrainer(
    device="cpu",
    max_epochs=15,
    train_data_loader=data.resumable_loader(dataset, batch_size=10, seed=0),
    method=method,
    optimizers=engines.build_optimizers(method, "adamw", lr=1e-3, weight_decay=0.05),
    schedules={"lr": schedules.CosineSchedule(1e-3, warmup_epochs=2)},
    train_handlers=[
        handlers.TeacherEMA(schedules.CosineSchedule(0.98, 1.0)),
        handlers.CollapseMonitor(every=5),
        handlers.TrainingLog("out/tutorial_01", every=20, tensorboard=False, progress_bar=False),
    ],
)
trainer.run()

# %% [markdown]
# The order term starts at ln 196 = 5.28 (guessing); restoration at the variance of the image, 1.

# %%
import json
from pathlib import Path

lines = [json.loads(line) for line in Path("out/tutorial_01/metrics.jsonl").read_text().splitlines()]
for line in [line for line in lines if "order" in line][::3]:
    print({key: round(value, 3) for key, value in line.items() if key in ("step", "order", "restoration", "loss")})

# %% [markdown]
# ## What did it learn?
#
# First the restoration: the network sees the upper row and paints the middle one. After so short a training it puts
# blurred lungs and a spine where they belong.

# %%
path = evaluation.save_restorations("out/tutorial_01/restorations.npz", method, views, images, count=3)
arrays = evaluation.load_restorations(path)
figure = visualize.draw_restorations(arrays["inputs"], arrays["restored"], arrays["targets"], list(arrays["names"]))
Image(visualize.encode_png(figure, dpi=70))

# %% [markdown]
# Then a harder question. Take a landmark of the lungs in one patient and look for the most similar feature in another
# patient. The probe does this for all pairs of test patients and six landmarks. It stands beside the same architecture
# at random initialization, and beside the *same position*, which is strong because radiographs are taken alike. Errors
# are fractions of the thorax width, with a 95 % interval over patients. Minutes of training beat the random network;
# `docs/results.md` has a longer run.

# %%
frozen = evaluation.FrozenEncoder(backbone, image_size=112, mean=0.5056, std=0.252)
result = evaluation.LandmarkProbe().run(frozen, data.segmentation_datalist("test"))
for name, metrics in {"trained": result.metrics, **result.baselines}.items():
    error = metrics["error"]
    print(f"{name:<22} {error.value:.3f} ({error.low:.3f} to {error.high:.3f})")

# %% [markdown]
# ## Keep the encoder
#
# `save_encoder` writes the weights and a record beside them (architecture, input size, normalization);
# `load_encoder` builds the network from it, so nobody has to guess.

# %%
networks.save_encoder(
    method.export_networks()["encoder"], "out/tutorial_01/encoder", image_size=112, mean=0.5056, std=0.252
)
encoder = networks.load_encoder("out/tutorial_01/encoder")
encoder(torch.zeros(1, 1, 112, 112)).shape

# %% [markdown]
# Next: fine-tune it to segment lungs with three labels,
#
# ```sh
# python -m monai.bundle run --config_file bundles/cxr_lung_segmentation/configs/few_shot.json \
#     --bundle_root bundles/cxr_lung_segmentation --finetune_model_path out/tutorial_01/encoder
# ```
