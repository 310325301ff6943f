"""YOLO9000 on the embedded scenes: digits of which some have no box in training, 96x96.

    python train.py --config=configs/scenes_yolo9000.py

The digits are the leaves of a small tree: even and odd ones, round and straight ones of each. The
training scenes with boxes have no 7, 8 and 9; of these there are scenes with one digit each, of
which only the label is known. The detector is trained on both kinds of images together.

Costs 7 minutes in all on 2 cores of an AMD EPYC (2026-12-03). Reached AP50 0.904 on the classes
with boxes and 0.652 on 7, 8 and 9, on average over the classes.
"""

from jaxvision.cli.config import default_config

TREE = {
    "even": "",
    "odd": "",
    "round even": "even",
    "straight even": "even",
    "round odd": "odd",
    "straight odd": "odd",
    **dict.fromkeys("068", "round even"),
    **dict.fromkeys("24", "straight even"),
    **dict.fromkeys("359", "round odd"),
    **dict.fromkeys("17", "straight odd"),
}
"""Node -> its parent; "" for roots."""


def get_config():
    config = default_config("detection")
    config.steps = 2500
    config.batch_size = 32

    config.model.name = "yolo9000"
    config.model.backbone = {
        "name": "plain_darknet",
        "stages": (
            (0, ((16, 3),)),
            (1, ((32, 3),)),
            (2, ((64, 3),)),
            (3, ((128, 3), (64, 1), (128, 3))),
        ),
    }
    config.model.level = 3
    config.model.convolutions = (128,)
    config.detector.tree = TREE
    # jaxvision anchors --config=scenes_yolov2_tiny --k=3
    config.anchors = ((10.2, 17.6), (15.6, 26.1), (22.1, 35.3))

    config.data.source = "scenes"
    config.data.labels_only = tuple("789")
    config.data.validation_fraction = 0.0
    config.data.image_size = 96
    config.data.class_names = tuple("0123456789")
    config.data.max_boxes = 8
    config.data.cache = True

    config.augment.jitter = 0.2
    config.augment.hue = 0.5  # the test scenes are on a photograph of other colours
    config.augment.saturation = 2.0
    config.augment.value = 1.5

    config.loss.prior_steps = 50
    config.loss.label_start = 500  # until then the detector learns where digits are

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 2e-2
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.2
    return config
