"""A small U-Net on the embedded scenes: digits on photographs, 96x96.

    python train.py --config=configs/scenes_unet.py

Costs 4 min 57 s in all on 2 cores of an AMD EPYC (2026-11-22), preparation of the data and
compilation included. Reached a mean IoU of 0.706 and Dice of 0.825 on the 500 test scenes, which
show other digits on another photograph. Longer it gets better: a mean IoU of 0.779 with

    --config.steps=16000 --config.eval_every=8000 --config.augment.translate=0.1
    --config.augment.scale="(0.85,1.2)" --config.augment.ratio="(0.85,1.2)"
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("segmentation")
    config.steps = 3000
    config.batch_size = 8
    config.eval_every = 3000
    config.best.metric = "mean_iou"

    config.model.name = "unet_backbone"
    config.model.backbone = {
        "name": "plain_darknet",
        "stages": (
            (1, ((16, 3),)),
            (2, ((32, 3),)),
            (3, ((128, 3), (64, 1), (128, 3), (64, 1), (128, 3))),
        ),
    }
    config.model.widths = (32, 16)
    config.model.grow = "subpixel"
    config.model.aux = True

    config.data.source = "scenes"
    config.data.validation_fraction = 0.05
    config.data.image_size = 96
    config.data.class_names = ("background", *"0123456789")
    config.data.cache = True

    config.augment.hue = 0.5  # the test scenes are on a photograph of other colours
    config.augment.saturation = 2.0
    config.augment.value = 1.5

    config.loss.name = "cross_entropy"
    config.auxiliary.factor = 1.0
    config.auxiliary.class_weights = (0.1,) + (1.0,) * 10  # teaches the digits sooner

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1.5e-2
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.1
    return config
