"""ResNet-20 on Fashion-MNIST, from its idx .gz files.

    python train.py --config=configs/fashion_mnist_resnet20.py --config.data.dir=DIR

60 epochs; not run in full yet, for want of a GPU. A twentieth of it,

    python train.py --config=configs/fashion_mnist_resnet20.py --config.data.dir=DIR \\
        --config.steps=1266 --config.eval_every=422

costs 7 minutes on 2 cores of an AMD EPYC (2026-11-22) and reached 0.9099 on the 10,000 test
images.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config()
    config.batch_size = 128
    config.steps = 54_000 * 60 // config.batch_size  # 60 epochs of nine tenths of the 60,000
    config.eval_every = 54_000 * 2 // config.batch_size

    config.model.name = "resnet20"
    config.data.source = "idx"
    config.data.image_size = 28
    config.data.mean = (0.2860,)
    config.data.std = (0.3530,)
    config.augment.flip = True
    config.augment.padding = 3
    config.loss.label_smoothing = 0.0

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.03
    return config
