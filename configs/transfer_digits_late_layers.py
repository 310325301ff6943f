"""More data, like the old: the late layers of a ResNet-20 of Fashion-MNIST, on all the digits.

    python train.py --config=configs/fashion_mnist_resnet20.py --config.data.dir=DIR
    python train.py --config=configs/transfer_digits_late_layers.py

The first convolution and the first stage stay as they are, with the statistics of their norms.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config()
    config.init_from = "runs/fashion_mnist_resnet20"
    config.freeze = ("conv1", "bn1", "layer1*")
    config.freeze_statistics = ("bn1", "layer1*")
    config.steps = 300
    config.batch_size = 64
    config.eval_every = 50

    config.model.name = "resnet20"
    config.data.image_size = 28
    config.data.resize = "bilinear"
    config.data.mean = (0.2860,)
    config.data.std = (0.3530,)
    config.data.cache = True
    config.augment.padding = 2
    config.augment.degrees = 10.0

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.05
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.3
    return config
