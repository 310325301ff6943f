"""Floor 6: from images in files to predictions, and to pictures of them."""

from jaxvision.data import read_image
from jaxvision.predict.colors import class_color
from jaxvision.predict.detector import Found, detect_in_files, predict_of_darknet
from jaxvision.predict.draw import draw_detections, picture_grid
from jaxvision.predict.files import find_images, output_names, write_picture
from jaxvision.predict.labels import draw_labels, label_palette, write_label_png
from jaxvision.predict.landmarks import draw_landmarks
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
    "Found",
    "Predicted",
    "Predictor",
    "Restorer",
    "class_color",
    "detect_in_files",
    "draw_detections",
    "draw_labels",
    "draw_landmarks",
    "find_images",
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
    "read_image",
    "read_images",
    "restore_of_task",
    "write_label_png",
    "write_picture",
]
