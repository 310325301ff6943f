"""SSDlite with MobileNetV3-Large on COCO, with the settings of torchvision's weights.

    python train.py --config=configs/coco_ssdlite320.py --workdir=runs/coco_ssdlite320 \\
        --config.data.dir=coco

The folder has annotations/instances_train2017.json and instances_val2017.json, and the images in
train2017/ and val2017/. 660 epochs in batches of 192 from random weights; torchvision's weights
have an AP of 0.213, of images that are resized in floating point
(--config.data.resampling=float32). It has not been trained here.
"""

import dataclasses

from jaxvision.cli.config import default_config
from jaxvision.data import COCO_CLASSES
from jaxvision.tasks.detectors import SSDLITE_DECODE


def get_config():
    config = default_config("detection")
    config.steps = 403_000
    config.batch_size = 192
    config.eval_every = 6100

    config.model.name = "ssdlite320_mobilenet_v3_large"
    config.detector.layout = "ssdlite320"
    config.loss.forced = "best"
    config.detect.update(dataclasses.asdict(SSDLITE_DECODE))

    config.data.source = "coco"
    config.data.train_split = "train2017"
    config.data.test_split = "val2017"
    config.data.class_names = COCO_CLASSES
    config.data.validation_fraction = 0.01
    config.data.drop_bad = True  # some boxes have no area, or reach beyond the image
    config.data.image_size = 320
    config.data.resize = "stretch"
    config.data.mean = (0.5, 0.5, 0.5)
    config.data.std = (0.5, 0.5, 0.5)
    config.data.workers = 8

    config.augment.preset = "ssdlite"

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.15
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 4e-5
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.0025  # 1,000 updates
    return config
