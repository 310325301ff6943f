"""YOLOv3 on COCO, with the settings of Darknet's yolov3.cfg.

    python train.py --config=configs/coco_yolov3.py --workdir=runs/coco_yolov3 \\
        --config.data.dir=coco

The folder has annotations/instances_train2017.json and instances_val2017.json, and the images in
train2017/ and val2017/. The paper reports AP50 0.553 at 416 and 0.579 at 608 on test-dev (AP 0.310
and 0.330), from a backbone that was trained on ImageNet; this begins with random weights, and has
not been trained here.
"""

from jaxvision.cli.config import default_config
from jaxvision.data import COCO_CLASSES


def get_config():
    config = default_config("detection")
    config.steps = 500_200
    config.batch_size = 64
    config.eval_every = 10_004

    config.model.name = "yolov3"
    config.anchors = (
        *((10, 13), (16, 30), (33, 23)),
        *((30, 61), (62, 45), (59, 119)),
        *((116, 90), (156, 198), (373, 326)),
    )

    config.data.source = "coco"
    config.data.train_split = "train2017"
    config.data.test_split = "val2017"
    config.data.class_names = COCO_CLASSES
    config.data.validation_fraction = 0.01
    config.data.drop_bad = True  # some boxes have no area, or reach beyond the image
    config.data.image_size = 416
    config.data.sizes = tuple(range(320, 609, 32))
    config.data.workers = 8

    config.augment.jitter = 0.3
    config.augment.flip = 0.5
    config.augment.hue = 0.1
    config.augment.saturation = 1.5
    config.augment.value = 1.5

    config.loss.ignore_threshold = 0.7

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "step"
    config.optimizer.schedule.warmup = 0.002  # 1,000 updates
    config.optimizer.schedule.milestones = (0.8, 0.9)
    return config
