"""Floor 6: from images in files to predictions, and to pictures of them."""

from jaxvision.data import read_image
from jaxvision.predict.detector import (
    Detector,
    Failed,
    Found,
    detect_in_files,
    predict_of_darknet,
    predict_of_task,
)
from jaxvision.predict.draw import class_color, draw_detections, picture_grid
from jaxvision.predict.files import find_images, output_names

__all__ = [
    "Detector",
    "Failed",
    "Found",
    "class_color",
    "detect_in_files",
    "draw_detections",
    "find_images",
    "output_names",
    "picture_grid",
    "predict_of_darknet",
    "predict_of_task",
    "read_image",
]
