"""A small YOLOv1 on the embedded scenes: digits on photographs, 96x96.

    python train.py --config=configs/scenes_yolov1_tiny.py

Costs about 5 minutes on 2 cores of an AMD EPYC (2026-11-21). Reached AP50 0.893, AP75 0.656 and
AP 0.571 on the 500 test scenes, which show other digits on another photograph.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("detection")
    config.steps = 1600
    config.batch_size = 16
    config.eval_every = 800
    config.best.metric = "AP50"

    # Convolutional to the end: a cell for each 8 pixels, and batch norm.
    config.model.name = "yolov1"
    config.model.stages = (
        (0, ((16, 3),)),
        (1, ((32, 3),)),
        (2, ((64, 3),)),
        (3, ((128, 3), (64, 1), (128, 3))),
    )
    config.model.convolutions = ((128, 1),)
    config.model.hidden = ()
    config.model.norm = "batch_norm"

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
