"""Radiographs from disk to batch: reading, lists, splits, samples."""

from .datalists import (
    DatalistError,
    check_splits,
    find_images,
    load_datalist,
    patient_from_name,
    split_by_patient,
    take_fraction,
    take_shots,
    walk_images,
)
from .samples import pretraining_datalist, sample_folder, segmentation_datalist
from .sampling import ResumableSampler, SeededDataset, permutation, resumable_loader
from .synthetic import synthetic_radiograph

__all__ = [
    "DatalistError",
    "ResumableSampler",
    "SeededDataset",
    "check_splits",
    "find_images",
    "load_datalist",
    "patient_from_name",
    "permutation",
    "pretraining_datalist",
    "resumable_loader",
    "sample_folder",
    "segmentation_datalist",
    "split_by_patient",
    "synthetic_radiograph",
    "take_fraction",
    "take_shots",
    "walk_images",
]
