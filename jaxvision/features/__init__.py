"""Layer 6: features of images: computing and storing them, linear probes, nearest neighbors;
R-CNN, which classifies features of regions."""

from jaxvision.features.feature_files import (
    check_comparable,
    check_features_file,
    images_digest,
    read_features,
    write_features,
)
from jaxvision.features.features import (
    Features,
    RecordBatch,
    choose_maps,
    compute_features,
    features_of_maps,
    image_batches,
    variables_behind_maps,
)
from jaxvision.features.linear_probe import (
    L2_GRID,
    LinearProbe,
    Probed,
    choose_l2,
    fit_linear_probe,
    probe_map,
)
from jaxvision.features.neighbors import find_neighbors
from jaxvision.features.rcnn import (
    RCNN,
    RegionFeatures,
    crop_regions,
    fit_rcnn,
    region_examples,
)

__all__ = [
    "L2_GRID",
    "RCNN",
    "Features",
    "LinearProbe",
    "Probed",
    "RecordBatch",
    "RegionFeatures",
    "check_comparable",
    "check_features_file",
    "choose_l2",
    "choose_maps",
    "compute_features",
    "crop_regions",
    "features_of_maps",
    "find_neighbors",
    "fit_linear_probe",
    "fit_rcnn",
    "image_batches",
    "images_digest",
    "probe_map",
    "read_features",
    "region_examples",
    "variables_behind_maps",
    "write_features",
]
