"""ResNet-20 on Fashion-MNIST, from its idx .gz files."""

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

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.03
    return config
