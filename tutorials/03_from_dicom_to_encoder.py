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
# # From a folder of DICOM files to a pre-trained encoder
#
# A hospital's disk holds DICOM files. Some are unusual, some are broken, several belong to one patient, and all contain
# names. This tutorial turns such a disk into a de-identified training set and trains on it.
#
# To run anywhere, it first makes such a disk from the radiographs that ship with the package. If you have a folder of
# your own, skip the next cell and set `disk` to it.

# %%
import shutil
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import numpy as np
import pydicom
from PIL import Image

from monai_anat import data, engines, handlers, methods, networks, schedules

work = Path("out/tutorial_03")
shutil.rmtree(work, ignore_errors=True)
disk = work / "disk"
disk.mkdir(parents=True)

for number, item in enumerate(data.pretraining_datalist()[:100]):
    gray = np.asarray(Image.open(item["image"])).astype(np.uint16) * 16
    inverted = number % 3 == 0  # some devices store bone dark
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.{number + 1}"
    file.PatientName, file.PatientID = f"Doe^Jane {number // 2}", str(number // 2)
    file.Modality, file.BodyPartExamined = "CR", "CHEST"
    file.ViewPosition = "LL" if number % 20 == 19 else "PA"
    file.Rows, file.Columns = gray.shape
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME1" if inverted else "MONOCHROME2"
    file.WindowCenter, file.WindowWidth = 2048, 4096
    file.PixelData = (4095 - gray if inverted else gray).tobytes()
    file["PixelData"].VR = "OW"
    file.save_as(disk / f"Doe_Jane_{number:03d}.dcm", enforce_file_format=True)

whole = (disk / "Doe_Jane_001.dcm").read_bytes()
(disk / "damaged.dcm").write_bytes(whole[: len(whole) // 2])
(disk / "empty.dcm").write_bytes(b"")
_ = (disk / "the_same_again.dcm").write_bytes(whole)

# %% [markdown]
# ## One file
#
# `read_radiograph` returns rows and columns with air dark and bone bright, whatever the encoding. `info` describes how
# the gray values were obtained. It never contains a name, an identifier or a date.

# %%
radiograph = data.read_radiograph(disk / "Doe_Jane_000.dcm")
{name: radiograph.info[name] for name in ("kind", "photometric", "inverted", "mapping", "view", "turned")}

# %% [markdown]
# ## The whole disk
#
# `prepare_radiographs` reads every file, sets unusable ones aside with a reason, resizes the others to `size` pixels on
# the short side, and splits by patient. The command line does the same: `python -m monai_anat prepare DISK OUT --size
# 160`. An interrupted run continues where it stopped.
#
# Patients become keyed hashes. The key stays in a file of your own, outside the prepared folder. Only its owner can
# link images to a patient again.

# %%
prepared = work / "prepared"
summary = data.prepare_radiographs(
    disk, prepared, size=160, splits={"training": 0.8, "validation": 0.2}, key_file=work / "patient.key"
)
print(summary.text())

# %% [markdown]
# `rejected.csv` lists every file that was set aside, by its position on the disk.

# %%
print((prepared / "rejected.csv").read_text())

# %% [markdown]
# Always look at the contact sheet. Is every image upright, is bone bright, is every image a chest?

# %%
Image.open(prepared / "contact_sheet.png").resize((640, 640))

# %% [markdown]
# ## No patient in two splits
#
# Every bundle checks this before training. You can check it as well:

# %%
splits = {name: data.load_datalist(prepared, name) for name in ("training", "validation")}
data.check_splits(splits)
{name: len(items) for name, items in splits.items()}

# %% [markdown]
# ## Training
#
# The images are stored in a few large files that are mapped into memory. Opening a million of them is instant, and
# processes share one copy.

# %%
images = data.ShardDataset(prepared, "training", crop=152)
views = methods.RandPEACViewsd(grid_size=14, cell_size=8, margin=4)
backbone = networks.ViTBackbone(image_size=112, patch_size=8, embed_dim=96, depth=3, num_heads=3)
method = methods.PEACMethod(backbone, image_size=112, global_dim=128, local_dim=32)
trainer = engines.SSLTrainer(
    device="cpu",
    max_epochs=4,
    train_data_loader=data.resumable_loader(data.SeededDataset(images, views, seed=0), batch_size=16, seed=0),
    method=method,
    optimizers=engines.build_optimizers(method, "adamw", lr=1e-3, weight_decay=0.05),
    schedules={"lr": schedules.CosineSchedule(1e-3, warmup_epochs=1)},
    train_handlers=[handlers.TeacherEMA(schedules.CosineSchedule(0.95, 1.0))],
)
trainer.run()
_ = networks.save_encoder(method.export_networks()["encoder"], work / "encoder", image_size=112, mean=0.5056, std=0.252)

# %% [markdown]
# For a real run, give the prepared folder to the bundle:
#
# ```sh
# python -m monai.bundle run --config_file bundles/cxr_peac_pretraining/configs/train.json \
#     --bundle_root bundles/cxr_peac_pretraining --dataset_dir out/tutorial_03/prepared
# ```
#
# ## Embeddings
#
# The encoder maps each image to a vector. The table is keyed by a hash of the pixels. It contains no file name and no
# patient.

# %%
encoder = networks.load_encoder(work / "encoder")
chain = data.radiograph_preprocessing(112, mean=0.5056, std=0.252)
data.write_embeddings(encoder, splits["validation"], work / "embeddings", transform=chain)
embeddings = np.load(work / "embeddings" / "embeddings.npy")
print(embeddings.shape)
print((work / "embeddings" / "index.csv").read_text()[:80])
