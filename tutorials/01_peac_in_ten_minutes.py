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
# A chest radiograph is not an arbitrary picture. The heart is on the left, the lungs are on both sides of the
# mediastinum, and the same structure looks alike in every patient. PEAC uses this regularity to train an encoder
# without labels. This tutorial shows the network's input, trains for a few minutes on the radiographs that ship with
# the package, and measures the result.

# %%
import warnings

warnings.filterwarnings("ignore")

import torch
from IPython.display import Image
from matplotlib.figure import Figure

from monai_anat import data, engines, evaluation, handlers, methods, networks, schedules, transforms, visualize

_ = torch.manual_seed(0)

# %% [markdown]
# ## Data
#
# 200 frontal radiographs without labels, and 65 with lung masks. All are free to use (see the attribution file).

# %%
radiographs = data.pretraining_datalist()
loading = data.radiograph_preprocessing(152, as_uint8=True)  # load, upright, short side to 152 px, center crop, bytes
images = [loading(item) for item in radiographs]
len(images), images[0]["image"].shape, images[0]["image"].dtype

# %% [markdown]
# ## Two crops of one grid
#
# A grid of 18 x 18 cells of 8 px is placed on the radiograph. Two views of 14 x 14 cells start at different cells of
# that grid. So we know, cell by cell, which part of view 2 shows the same anatomy as a part of view 1. This map is the
# `correspondence`; it is -1 where there is no match.

# %%
crops = transforms.RandOverlappingGridCropsd("image", grid_size=14, cell_size=8, margin=4).set_random_state(3)
pair = crops(images[0])
matched = pair["correspondence"] >= 0
print(f"{int(matched.sum())} of {len(matched)} cells of view 1 are seen in view 2 too")

# %% [markdown]
# Matching cells are equal pixel by pixel:

# %%
cells_1, cells_2 = (transforms.split_cells(pair[view], 8, 2) for view in ("view_1", "view_2"))
bool((cells_1[matched] == cells_2[pair["correspondence"][matched]]).all())

# %% [markdown]
# ## Network input
#
# `RandPEACViewsd` makes a whole batch item in one transform. View 1 is either *distorted* or *shuffled* at random. View
# 2 stays clean. `target` is the image that the network restores.

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
# ## Method
#
# A student with three heads learns from a teacher, its own moving average. The forward pass returns named terms, which
# the trainer adds with the weights of `loss_weights`.

# %%
backbone = networks.ViTBackbone(image_size=112, patch_size=8, embed_dim=128, depth=4, num_heads=2)
method = methods.PEACMethod(backbone, image_size=112, global_dim=128, local_dim=32)
method.loss_weights

# %% [markdown]
# ## Training
#
# The sampler and the random seeds depend on the step alone, so an interrupted run continues exactly where it stopped.
# Here we train for a few minutes. The bundle `cxr_peac_pretraining` does the same from the command line.

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
# The order term starts at ln 196 = 5.28, the loss of guessing. Restoration starts near 1, the variance of the
# normalized image.

# %%
import json
from pathlib import Path

lines = [json.loads(line) for line in Path("out/tutorial_01/metrics.jsonl").read_text().splitlines()]
for line in [line for line in lines if "order" in line][::3]:
    print({key: round(value, 3) for key, value in line.items() if key in ("step", "order", "restoration", "loss")})

# %% [markdown]
# ## What did it learn?
#
# First, restoration. The network sees the upper row and predicts the middle one. After this short training it places
# blurred lungs and a spine.

# %%
path = evaluation.save_restorations("out/tutorial_01/restorations.npz", method, views, images, count=3)
arrays = evaluation.load_restorations(path)
figure = visualize.draw_restorations(arrays["inputs"], arrays["restored"], arrays["targets"], list(arrays["names"]))
Image(visualize.encode_png(figure, dpi=70))

# %% [markdown]
# Second, correspondence between patients. The probe takes a landmark of the lungs in one patient and searches the most
# similar feature in another patient, for all pairs of test patients and six landmarks. Two baselines are shown: the
# same network at random initialization, and the *same position* in the other image, which is strong because radiographs
# are taken alike. Errors are fractions of the thorax width, with a 95 % interval over patients. Minutes of training
# beat the random network but not the same position.

# %%
frozen = evaluation.FrozenEncoder(backbone, image_size=112, mean=0.5056, std=0.252)
result = evaluation.LandmarkProbe().run(frozen, data.segmentation_datalist("test"))
for name, metrics in {"trained": result.metrics, **result.baselines}.items():
    error = metrics["error"]
    print(f"{name:<22} {error.value:.3f} ({error.low:.3f} to {error.high:.3f})")

# %% [markdown]
# ## Save the encoder
#
# `save_encoder` writes the weights and a record of architecture, input size and normalization. `load_encoder` builds
# the network from that record.

# %%
networks.save_encoder(
    method.export_networks()["encoder"], "out/tutorial_01/encoder", image_size=112, mean=0.5056, std=0.252
)
encoder = networks.load_encoder("out/tutorial_01/encoder")
encoder(torch.zeros(1, 1, 112, 112)).shape

# %% [markdown]
# Next: fine-tune the encoder to segment lungs with three labels.
#
# ```sh
# python -m monai.bundle run --config_file bundles/cxr_lung_segmentation/configs/few_shot.json \
#     --bundle_root bundles/cxr_lung_segmentation --finetune_model_path out/tutorial_01/encoder
# ```
