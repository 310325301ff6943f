"""A small Mask R-CNN on the embedded scenes: digits on photographs, 96x96, and their masks.

    python train.py --config=configs/scenes_mask_rcnn.py

A pyramid has maps of stride 4 and 8. Boxes and masks are read from the finer one, as the strokes
of the digits are thin: RoIAlign takes 5x5 bins for boxes, and 7x7 for masks of 14x14 cells.
"""

import pathlib
import runpy


def get_config():
    boxes = pathlib.Path(__file__).with_name("scenes_faster_rcnn.py")
    config = runpy.run_path(str(boxes))["get_config"]()
    config.steps = 1600
    config.eval_every = 1600

    config.model.name = "mask_rcnn"
    config.model.levels = ("c2", "c3")
    config.model.features = 64
    config.model.anchor_sizes = ((12,), (20,), (30,))
    config.model.mask_head = {"name": "mask", "depth": 2, "features": 64}
    config.model.region_size = 7
    config.data.masks = True
    config.detect.max_detections = 20
    return config
