"""A small YOLOv3 on the embedded scenes: digits on photographs, 96x96.

    python train.py --config=configs/scenes_yolov3_tiny.py

Costs about 5 minutes on 2 cores of an AMD EPYC (2026-11-21). Reached AP50 0.901, AP75 0.632 and
AP 0.556 on the 500 test scenes, which show other digits on another photograph.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("detection")
    config.steps = 1600
    config.batch_size = 16
    config.eval_every = 800
    config.best.metric = "AP50"

    config.model.name = "yolov3"
    config.model.backbone = {
        "name": "plain_darknet",
        "stages": (
            (0, ((16, 3),)),
            (1, ((32, 3),)),
            (2, ((64, 3),)),
            (3, ((128, 3), (64, 1), (128, 3))),
            (4, ((128, 3),)),
        ),
    }
    config.model.scales = ((4, None, ((64, 1),), 128), (3, 32, ((64, 1),), 128))
    config.anchors = ((8, 16), (12, 20), (15, 25), (19, 28), (20, 33), (26, 36))

    config.data.source = "scenes"
    config.data.validation_fraction = 0.05
    config.data.image_size = 96
    config.data.class_names = tuple("0123456789")
    config.data.max_boxes = 8
    config.data.cache = True

    config.augment.hue = 0.5
    config.augment.saturation = 2.0
    config.augment.value = 1.5

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 2e-2
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.2
    return config
