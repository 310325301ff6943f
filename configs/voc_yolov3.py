"""YOLOv3 on Pascal VOC 2007 + 2012, with the settings of Darknet's yolov3-voc.cfg.

    python train.py --config=configs/voc_yolov3.py --workdir=runs/voc_yolov3 \\
        --config.data.dir=VOCdevkit

The folder has VOC2007 and VOC2012 as they are unpacked. Training is on both trainval sets (16,551
images), testing on VOC2007's test set. Darknet begins with a backbone that was trained on ImageNet;
this begins with random weights, and has not been trained here.
"""

from jaxvision.cli.config import default_config
from jaxvision.data import VOC_CLASSES


def get_config():
    config = default_config("detection")
    config.steps = 50_200
    config.batch_size = 64
    config.eval_every = 2510
    config.best.metric = "mAP_VOC"

    config.model.name = "yolov3"
    config.anchors = (
        *((10, 13), (16, 30), (33, 23)),
        *((30, 61), (62, 45), (59, 119)),
        *((116, 90), (156, 198), (373, 326)),
    )

    config.data.source = "voc"
    config.data.train_split = "VOC2007/trainval+VOC2012/trainval"
    config.data.test_split = "VOC2007/test"
    config.data.class_names = VOC_CLASSES
    config.data.validation_fraction = 0.02
    config.data.image_size = 416
    config.data.sizes = tuple(range(320, 609, 32))
    config.data.workers = 8

    config.augment.jitter = 0.3
    config.augment.flip = 0.5
    config.augment.hue = 0.1
    config.augment.saturation = 1.5
    config.augment.value = 1.5

    config.loss.ignore_threshold = 0.5

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "step"
    config.optimizer.schedule.warmup = 0.02  # 1,000 updates
    config.optimizer.schedule.milestones = (0.797, 0.896)
    return config
