"""Centres of digits on the embedded scenes, 96x96: a heatmap for each digit.

    python train.py --config=configs/scenes_landmarks.py

Took 10 min 18 s in all on 2 cores of an AMD EPYC that did other work too (7.5 minutes of one core;
2026-11-22), the data prepared before. Reached a pixel_error of 2.83 on the 500 test scenes, which
show other digits on another photograph: the mean distance, in pixels of the 96x96.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("landmarks")
    config.steps = 1500
    config.batch_size = 16
    config.eval_every = 1500

    config.model.name = "unet_backbone"
    config.model.backbone = {
        "name": "plain_darknet",
        "stages": (
            (0, ((16, 3),)),
            (1, ((32, 3),)),
            (2, ((64, 3), (64, 3))),
            (3, ((128, 3), (64, 1), (128, 3))),
        ),
    }
    config.model.widths = (64, 32, 8)

    config.data.source = "scenes"
    config.data.validation_fraction = 0.05
    config.data.image_size = 64  # of the scenes' 96: cheaper, and as exact
    config.data.class_names = tuple(f"digit {number}" for number in range(10))
    config.data.cache = True

    config.augment.scale = (0.8, 1.25)
    config.augment.ratio = (0.8, 1.25)
    config.augment.translate = 0.1
    config.augment.hue = 0.5  # the test scenes are on a photograph of other colours
    config.augment.saturation = 2.0
    config.augment.value = 1.5

    config.loss.sigma = 1.0
    config.decode.radius = 4

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1.6e-2
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.2
    return config
