"""A detector of your own, docs/own_detector.py, on the embedded scenes.

    python train.py --config=docs/own_detector_config.py --workdir=runs/points

Run it from the folder of the repository: the config names its files from there.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("detection")
    config.steps = 1000
    config.batch_size = 16
    config.eval_every = 500
    config.best.metric = "AP50"

    config.model.name = "docs/own_detector.py:Net"
    config.detector.name = "docs/own_detector.py:centre_points"

    config.data.source = "scenes"
    config.data.image_size = 96
    config.data.class_names = tuple("0123456789")
    config.data.max_boxes = 8
    config.data.cache = True
    config.augment.hue = 0.5
    config.augment.saturation = 2.0

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.2
    return config
