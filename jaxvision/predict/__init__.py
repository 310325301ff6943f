"""Layer 6: predicts for images, and draws predictions.

The package can be called like its function `predict`: `jaxvision.predict(task, variables, images)`.
"""

import sys
import types
from typing import Any

from jaxvision.data import read_image
from jaxvision.predict.colors import class_color
from jaxvision.predict.darknet import darknet_task
from jaxvision.predict.draw import draw_detections, picture_grid
from jaxvision.predict.files import find_images, output_names, write_picture
from jaxvision.predict.labels import draw_labels, label_palette, write_label_png
from jaxvision.predict.landmarks import draw_landmarks
from jaxvision.predict.neighbors import Neighbor, draw_neighbors
from jaxvision.predict.pictures import (
    DRAW,
    draw_class_tags,
    draw_classification,
    draw_prediction,
)
from jaxvision.predict.predictor import Failed, Prediction, predict, restorer_of
from jaxvision.predict.restorer import Restorer
from jaxvision.predict.results import DetectedObjects
from jaxvision.predict.segmenter import label_tiles, labels_of_original
from jaxvision.predict.tiles import predict_in_tiles
from jaxvision.predict.video import VideoWriter

__all__ = [
    "DRAW",
    "DetectedObjects",
    "Failed",
    "Neighbor",
    "Prediction",
    "Restorer",
    "VideoWriter",
    "class_color",
    "darknet_task",
    "draw_class_tags",
    "draw_classification",
    "draw_detections",
    "draw_labels",
    "draw_landmarks",
    "draw_neighbors",
    "draw_prediction",
    "find_images",
    "label_palette",
    "label_tiles",
    "labels_of_original",
    "output_names",
    "picture_grid",
    "predict",
    "predict_in_tiles",
    "read_image",
    "restorer_of",
    "write_label_png",
    "write_picture",
]


class _CallableModule(types.ModuleType):
    """Importing the package sets `jaxvision.predict` to the module, so the module is callable."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return predict(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
