"""Floor 6: from images in files to predictions, and to pictures of them."""

from jaxvision.data import read_image
from jaxvision.features.feature_files import (
    check_comparable,
    check_features_file,
    images_digest,
    read_features,
    write_features,
)
from jaxvision.features.features import (
    Features,
    ImageBatch,
    ToInput,
    choose_maps,
    compute_features,
    features_of_maps,
    image_batches,
    variables_behind_maps,
)
from jaxvision.predict.colors import class_color
from jaxvision.predict.detector import Found, detect_in_files, predict_of_darknet
from jaxvision.predict.draw import draw_detections, picture_grid
from jaxvision.predict.files import find_images, output_names, write_picture
from jaxvision.predict.labels import draw_labels, label_palette, write_label_png
from jaxvision.predict.landmarks import draw_landmarks
from jaxvision.predict.neighbors import Neighbor, draw_neighbors
from jaxvision.predict.predictor import (
    Failed,
    Predicted,
    Predictor,
    maps_of_task,
    predict_in_files,
    predict_of_task,
    read_images,
)
from jaxvision.predict.restorer import Restorer, restore_of_task
from jaxvision.predict.segmenter import label_tiles, labels_of_original
from jaxvision.predict.tiles import predict_in_tiles

__all__ = [
    "Failed",
    "Features",
    "Found",
    "ImageBatch",
    "Neighbor",
    "Predicted",
    "Predictor",
    "Restorer",
    "ToInput",
    "check_comparable",
    "check_features_file",
    "choose_maps",
    "class_color",
    "compute_features",
    "detect_in_files",
    "draw_detections",
    "draw_labels",
    "draw_landmarks",
    "draw_neighbors",
    "features_of_maps",
    "find_images",
    "image_batches",
    "images_digest",
    "label_palette",
    "label_tiles",
    "labels_of_original",
    "maps_of_task",
    "output_names",
    "picture_grid",
    "predict_in_files",
    "predict_in_tiles",
    "predict_of_darknet",
    "predict_of_task",
    "read_features",
    "read_image",
    "read_images",
    "restore_of_task",
    "variables_behind_maps",
    "write_features",
    "write_label_png",
    "write_picture",
]
