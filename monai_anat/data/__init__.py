"""Data loading: readers, datalists, splits, prepared folders and sample data."""

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.class_labels import check_class_labels, class_weights, read_class_labels
from monai_anat.data.lists.datalists import load_datalist
from monai_anat.data.lists.folder_images import find_images
from monai_anat.data.lists.mixtures import mix_datalists
from monai_anat.data.lists.output_names import OutputNames
from monai_anat.data.lists.public_sets.registry import PUBLIC_SETS
from monai_anat.data.lists.samples import (
    classification_datalist,
    pretraining_datalist,
    sample_folder,
    segmentation_datalist,
)
from monai_anat.data.lists.segmentation_lists import check_segmentation_list
from monai_anat.data.lists.splits import check_splits, split_by_patient, take_fraction, take_shots
from monai_anat.data.lists.synthetic import synthetic_radiograph
from monai_anat.data.preparation.checksums import verify_prepared_folder
from monai_anat.data.preparation.duplicates import check_near_duplicates, load_checked_datalist
from monai_anat.data.preparation.embedding import write_embeddings
from monai_anat.data.preparation.prepare import prepare_radiographs
from monai_anat.data.reading.preprocessing import radiograph_preprocessing
from monai_anat.data.reading.radiograph import Radiograph, RadiographError, read_radiograph
from monai_anat.data.reading.readers import RadiographReader
from monai_anat.data.reading.shards import ShardDataset, prepared_items
from monai_anat.data.reading.upright import OrientRadiographd
from monai_anat.data.sampling import ResumableSampler, SeededDataset, resumable_loader
from monai_anat.data.scores import FinishScoresd

__all__ = [
    "PUBLIC_SETS",
    "DatalistError",
    "FinishScoresd",
    "OrientRadiographd",
    "OutputNames",
    "Radiograph",
    "RadiographError",
    "RadiographReader",
    "ResumableSampler",
    "SeededDataset",
    "ShardDataset",
    "check_class_labels",
    "check_near_duplicates",
    "check_segmentation_list",
    "check_splits",
    "class_weights",
    "classification_datalist",
    "find_images",
    "load_checked_datalist",
    "load_datalist",
    "mix_datalists",
    "prepare_radiographs",
    "prepared_items",
    "pretraining_datalist",
    "radiograph_preprocessing",
    "read_class_labels",
    "read_radiograph",
    "resumable_loader",
    "sample_folder",
    "segmentation_datalist",
    "split_by_patient",
    "synthetic_radiograph",
    "take_fraction",
    "take_shots",
    "verify_prepared_folder",
    "write_embeddings",
]
