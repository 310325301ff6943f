"""Darknet-19 on ImageNet, alone or in the tree of its classes, as for YOLOv2 and YOLO9000.

    python train.py --config=configs/imagenet_darknet19.py --workdir=runs/darknet19 \\
        --config.data.dir=imagenet [--config.tree.file=9k.tree]

DIR/train and DIR/val have a folder for each class, named by its wnid, as the nodes of the tree are.
The settings are those of the paper (Redmon and Farhadi 2017, "YOLO9000"), 160 epochs, but for the
learning rate, which falls along a cosine in place of a polynomial. For GPUs; not run in full.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config()
    config.batch_size = 128
    config.steps = 1_600_000
    config.eval_every = 10_000

    config.model.name = "darknet19"
    config.data.source = "folder"
    config.data.test_split = "val"
    config.data.validation_fraction = 0.01
    config.data.num_classes = 1000
    config.data.channels = 3
    config.data.image_size = 224
    config.data.shorter_side = 256
    config.data.resize = "crop"
    config.data.mean = (0.0, 0.0, 0.0)
    config.data.std = (1.0, 1.0, 1.0)
    config.data.workers = 16
    config.augment.crop_scale = (0.08, 1.0)
    config.augment.flip = True
    config.augment.saturation = 0.75
    config.augment.brightness = 0.75
    config.augment.hue = 0.1

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "cosine"
    return config
