"""A small RetinaNet on the embedded scenes: digits on photographs, 96x96.

    python train.py --config=configs/scenes_retinanet.py

Reaches AP50 0.925 on the 500 test scenes, in 6 min 41 s on 2 cores of an AMD EPYC (2026-12-02).
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("detection")
    config.steps = 3600
    config.batch_size = 16
    config.eval_every = 3600
    config.best.metric = "AP50"

    config.model.name = "retinanet"
    config.model.backbone = {
        "name": "plain_darknet",
        "stages": (
            (0, ((16, 3),)),
            (1, ((32, 3),)),
            (2, ((64, 3),)),
            (3, ((128, 3), (64, 1), (128, 3))),
        ),
    }
    config.model.levels = ("c3",)  # one map is enough for digits of 10 to 35 pixels
    config.model.p6_from = None
    config.model.features = 64
    config.model.depth = 2
    config.model.head_norm = "batch_norm"
    config.detector.sizes = (15,)
    config.detector.scales_per_octave = 2
    config.detector.aspect_ratios = (1.4, 2.0)
    config.loss.alpha = 0.5

    config.data.source = "scenes"
    config.data.validation_fraction = 0.05
    config.data.image_size = 96
    config.data.class_names = tuple("0123456789")
    config.data.max_boxes = 8
    config.data.cache = True

    config.augment.jitter = 0.2
    config.augment.hue = 0.5  # the test scenes are on a photograph of other colours
    config.augment.saturation = 2.0
    config.augment.value = 1.5

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 2e-2
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.2
    return config
