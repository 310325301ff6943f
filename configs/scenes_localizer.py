"""Class and box of one digit: the localiser on embedded scenes with one digit each, 96x96.

    python train.py --config=configs/scenes_localizer.py

Reaches a mean IoU of 0.737 and an accuracy of 0.884 on the 500 test scenes, in 6 min 37 s on 2
cores of an AMD EPYC (2026-12-02). docs/results.md has what else was tried.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("detection")
    config.steps = 8000
    config.batch_size = 16
    config.eval_every = 8000
    config.best.metric = "mean_iou"

    config.model.name = "localizer"
    config.model.backbone = {
        "name": "plain_darknet",
        "stages": (
            (1, ((32, 5),)),
            (2, ((64, 3),)),
            (3, ((96, 3), (48, 1), (96, 3), (48, 1), (96, 3))),
        ),
    }

    config.data.source = "single_scenes"
    config.data.validation_fraction = 0.05
    config.data.image_size = 96
    config.data.class_names = tuple("0123456789")
    config.data.max_boxes = 1
    config.data.cache = True

    config.augment.jitter = 0.15
    config.augment.hue = 0.5  # the test scenes are on a photograph of other colours
    config.augment.saturation = 2.0
    config.augment.value = 1.5

    config.loss.box_loss = "l1"
    config.loss.box_weight = 2.0

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.1
    return config
