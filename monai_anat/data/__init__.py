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
from .geometry import OrientRadiograph, OrientRadiographd, ResizeRadiograph, ResizeRadiographd, ScaleRadiographd
from .orientation import picture_affine, turn_of
from .preprocessing import FinishRadiographd, radiograph_preprocessing
from .radiograph import Radiograph, RadiographError, read_radiograph
from .readers import RadiographReader
from .samples import pretraining_datalist, sample_folder, segmentation_datalist
from .sampling import ResumableSampler, SeededDataset, permutation, resumable_loader
from .shards import ShardDataset, open_index, prepared_items
from .synthetic import synthetic_radiograph

__all__ = [
    "DatalistError",
    "FinishRadiographd",
    "OrientRadiograph",
    "OrientRadiographd",
    "Radiograph",
    "RadiographError",
    "RadiographReader",
    "ResizeRadiograph",
    "ResizeRadiographd",
    "ResumableSampler",
    "ScaleRadiographd",
    "SeededDataset",
    "ShardDataset",
    "check_splits",
    "find_images",
    "load_datalist",
    "open_index",
    "patient_from_name",
    "permutation",
    "picture_affine",
    "prepared_items",
    "pretraining_datalist",
    "radiograph_preprocessing",
    "read_radiograph",
    "resumable_loader",
    "sample_folder",
    "segmentation_datalist",
    "split_by_patient",
    "synthetic_radiograph",
    "take_fraction",
    "take_shots",
    "turn_of",
    "walk_images",
]
