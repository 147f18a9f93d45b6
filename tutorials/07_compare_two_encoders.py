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
# # Compare two encoders
#
# This tutorial trains two encoders on the same images for the same number of steps, measures both on the same patients,
# and tests which differences exceed chance. It ends with a page that you can send to somebody else.

# %%
import warnings

warnings.filterwarnings("ignore")

from pathlib import Path

import torch
from IPython.display import Image

from monai_anat import data, engines, evaluation, handlers, methods, networks, schedules, visualize


def show(figure, dpi=80):
    return Image(visualize.encode_png(figure, dpi=dpi))


# %% [markdown]
# ## Two encoders on equal terms
#
# POPAR sees whole radiographs and learns to order shuffled patches and to restore distorted ones. PEAC does the same on
# crops and adds a teacher: two crops of one patient have to agree, as a whole and cell by cell. Both get the same
# network, the same starting weights, the same radiographs, and 240 steps of 10. A step of PEAC costs more, because it
# has two views and a teacher. Equal steps are not equal seconds; decide beforehand which of them you mean by "equal
# terms".


# %%
def pretrain(make_method, views, image_size, more_handlers=()):
    torch.manual_seed(0)
    backbone = networks.ViTBackbone(image_size=112, patch_size=8, embed_dim=128, depth=4, num_heads=2)
    method = make_method(backbone)
    images = [data.radiograph_preprocessing(image_size, as_uint8=True)(item) for item in data.pretraining_datalist()]
    trainer = engines.SSLTrainer(
        device="cpu",
        max_epochs=12,
        train_data_loader=data.resumable_loader(data.SeededDataset(images, views, seed=0), batch_size=10, seed=0),
        method=method,
        optimizers=engines.build_optimizers(method, "adamw", lr=1e-3, weight_decay=0.05),
        schedules={"lr": schedules.CosineSchedule(1e-3, warmup_epochs=2)},
        train_handlers=list(more_handlers),
    )
    trainer.run()
    return method.export_networks()["encoder"]


popar = pretrain(
    lambda backbone: methods.POPARMethod(backbone, image_size=112),
    methods.RandPOPARViewsd(grid_size=14, cell_size=8),
    image_size=112,
)
peac = pretrain(
    lambda backbone: methods.PEACMethod(backbone, image_size=112, global_dim=128, local_dim=32),
    methods.RandPEACViewsd(grid_size=14, cell_size=8, margin=4),
    image_size=152,
    more_handlers=[handlers.TeacherEMA(schedules.CosineSchedule(0.98, 1.0))],
)

# %% [markdown]
# Each encoder is saved with a record of its input size and normalization, so the evaluation can feed it correctly.
# Encoders with different sizes or normalizations can be compared; each gets images as in its training.

# %%
out = Path("out/tutorial_07")
for name, encoder in {"popar": popar, "peac": peac}.items():
    networks.save_encoder(encoder, out / name, image_size=112, mean=0.5056, std=0.252)

# %% [markdown]
# ## The same questions to both
#
# `evaluate_encoder` runs protocols over a datalist (here the test patients of the sample) and writes `evaluation.json`
# and `report.html`. Tutorial 05 explains the protocols.

# %%
results = {
    name: evaluation.evaluate_encoder(
        out / name,
        data.sample_folder(),
        out / f"{name}_evaluation",
        protocols=["landmarks", "localizability", "co-segmentation", "collapse"],
        options={"co-segmentation": {"clusters": (5, 6), "restarts": 4}},
    )
    for name in ("popar", "peac")
}
for protocol, metric in {"landmarks": "error", "localizability": "knn_accuracy", "co-segmentation": "iou"}.items():
    for name in results:
        value = results[name][protocol].metrics[metric]
        print(f"{protocol:16} {metric:13} {name:6} {value.value:.3f} ({value.low:.3f} to {value.high:.3f})")
    for name, baseline in results["peac"][protocol].baselines.items():
        print(f"{protocol:16} {metric:13} {name}: {baseline[metric].value:.3f}")

# %% [markdown]
# ## Is the difference more than chance?
#
# Some patients are hard for every encoder. Both encoders were measured on the same patients and are resampled together,
# so the interval of the difference can be narrow where those of the two values are wide. `ahead` is given only if the
# interval excludes 0 and the metric has a better direction. `raw_cosine` (the cosine between different patients),
# `mutual` and `error_mutual` have none. `compare_results` refuses results of other patients or other settings.

# %%
for protocol in results["peac"]:
    differences = evaluation.compare_results(results["peac"][protocol], results["popar"][protocol])
    for metric, found in differences.items():
        if "/" not in metric and found.low is not None:
            verdict = {"first": "peac", "second": "popar", None: ""}[found.ahead]
            interval = f"{found.low:+.3f} to {found.high:+.3f}"
            print(f"{protocol:16} {metric:22} peac - popar {found.difference:+8.3f}   {interval:18} {verdict}")

# %% [markdown]
# With this many questions at 95 %, one "ahead" is expected by chance. Decide beforehand which metric counts, and use
# the others to understand it. Also, this interval covers *patients* only. Another seed of the pre-training gives other
# encoders, so a claim about two *methods* needs several runs of each.

# %% [markdown]
# ## One page
#
# The page has a section for each protocol: values with intervals and baselines, paired differences, and the best,
# median and worst case of each encoder. It is a single HTML file that can be read offline and on a phone.

# %%
report = evaluation.compare_report(results, "POPAR and PEAC after 240 steps")
page = report.write(out / "comparison.html")
print(f"open {page} in a browser ({page.stat().st_size / 1e6:.1f} MB)")
figures = [block for _, blocks in report.sections for block in blocks if isinstance(block, evaluation.ReportFigure)]
print(len(figures), "pictures, among them:")
print(figures[0].caption)
show(figures[0].figure, dpi=90)

# %% [markdown]
# The median case of each, among all pairs of patients. Dots: where the features find the landmark. Rings: where it is.
# The two need not show the same pair.

# %%
first, second = [figure for figure in figures if "median case" in figure.caption][:2]
print(first.caption)
show(first.figure)

# %%
print(second.caption)
show(second.figure)

# %% [markdown]
# ## Conclusion
#
# In the run shown here, the answer depends on the question. PEAC is ahead at finding landmarks in other patients
# (error, left-right confusion). POPAR is ahead at naming them (retrieval), in the clustering of features, and in the
# effective rank of its embeddings. The k-NN accuracy of windows is open. Both are far behind looking at the same
# position, so neither is an encoder to use yet.
#
# One run each, on 16 images, says something about these two files of weights and little about the two methods.
#
# For any number of encoders, `evaluation.compare_encoders` measures and compares in one call:
#
# ```python
# evaluation.compare_encoders(["out/a/encoder", "out/b/encoder"], "DATALIST", "out/comparison", ["all"])
# ```
