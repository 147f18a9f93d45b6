"""Radiographs from disk to batch: reading, lists, splits, samples."""

from .bundle_check import BundleFinding, check_bundle
from .class_labels import UNCERTAIN, check_class_labels, class_weights, read_class_labels
from .contact_sheet import draw_contact_sheet
from .datalists import (
    DatalistError,
    find_images,
    is_image_file,
    load_datalist,
    load_splits,
    patient_from_name,
    walk_images,
)
from .duplicates import check_near_duplicates, check_source, load_checked_datalist, near_duplicates, thumbnail_of
from .embedding import EmbedProgress, pixel_hash, write_embeddings
from .geometry import OrientRadiograph, OrientRadiographd, ResizeRadiograph, ResizeRadiographd, ScaleRadiographd
from .identity import default_key_file, keyed_hash, load_key
from .orientation import picture_affine, turn_of
from .prepare import PrepareProgress, iterate_preparation, prepare_radiographs
from .prepared_folder import PrepareSummary
from .preprocessing import FinishRadiographd, radiograph_preprocessing
from .public_sets import (
    PUBLIC_SETS,
    mix_datalists,
    read_chestxray14,
    read_chexpert,
    read_mimic_cxr,
    read_padchest,
    read_vindr_cxr,
)
from .radiograph import Radiograph, RadiographError, read_radiograph
from .readers import RadiographReader
from .samples import classification_datalist, pretraining_datalist, sample_folder, segmentation_datalist
from .sampling import ResumableSampler, SeededDataset, permutation, resumable_loader
from .shards import ShardDataset, open_index, prepared_items
from .splits import check_splits, split_by_patient, take_fraction, take_shots
from .synthetic import synthetic_radiograph

__all__ = [
    "PUBLIC_SETS",
    "UNCERTAIN",
    "BundleFinding",
    "DatalistError",
    "EmbedProgress",
    "FinishRadiographd",
    "OrientRadiograph",
    "OrientRadiographd",
    "PrepareProgress",
    "PrepareSummary",
    "Radiograph",
    "RadiographError",
    "RadiographReader",
    "ResizeRadiograph",
    "ResizeRadiographd",
    "ResumableSampler",
    "ScaleRadiographd",
    "SeededDataset",
    "ShardDataset",
    "check_bundle",
    "check_class_labels",
    "check_near_duplicates",
    "check_source",
    "check_splits",
    "class_weights",
    "classification_datalist",
    "default_key_file",
    "draw_contact_sheet",
    "find_images",
    "is_image_file",
    "iterate_preparation",
    "keyed_hash",
    "load_checked_datalist",
    "load_datalist",
    "load_key",
    "load_splits",
    "mix_datalists",
    "near_duplicates",
    "open_index",
    "patient_from_name",
    "permutation",
    "picture_affine",
    "pixel_hash",
    "prepare_radiographs",
    "prepared_items",
    "pretraining_datalist",
    "radiograph_preprocessing",
    "read_chestxray14",
    "read_chexpert",
    "read_class_labels",
    "read_mimic_cxr",
    "read_padchest",
    "read_radiograph",
    "read_vindr_cxr",
    "resumable_loader",
    "sample_folder",
    "segmentation_datalist",
    "split_by_patient",
    "synthetic_radiograph",
    "take_fraction",
    "take_shots",
    "thumbnail_of",
    "turn_of",
    "walk_images",
    "write_embeddings",
]
