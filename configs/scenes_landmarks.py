"""Centres of digits on the embedded scenes, 96x96: a heatmap for each digit.

    python train.py --config=configs/scenes_landmarks.py

TODO figures
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("landmarks")
    config.steps = 1600
    config.batch_size = 16
    config.eval_every = 800

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
