"""A small Keypoint R-CNN on the embedded scenes: the four outermost ink pixels of each digit.

    python train.py --config=configs/scenes_keypoint_rcnn.py

The points are the topmost, bottommost, leftmost and rightmost pixel. Boxes and points are read from
the map of stride 4 of a pyramid: RoIAlign takes 5x5 bins for boxes, and 7x7 for the points, which
are found on maps of 28x28 cells.
"""

import pathlib
import runpy


def get_config():
    boxes = pathlib.Path(__file__).with_name("scenes_faster_rcnn.py")
    config = runpy.run_path(str(boxes))["get_config"]()
    config.steps = 1600
    config.eval_every = 1600
    config.best.metric = "keypoint_AP"

    config.model.name = "keypoint_rcnn"
    config.model.levels = ("c2", "c3")
    config.model.features = 64
    config.model.anchor_sizes = ((12,), (20,), (30,))
    config.model.keypoint_head = {"name": "keypoint", "outputs": 4, "depth": 4, "features": 64}
    config.model.region_size = 7
    config.data.keypoints = True
    config.detector.keypoint_sigmas = (0.1,) * 4
    config.detect.max_detections = 20
    return config
