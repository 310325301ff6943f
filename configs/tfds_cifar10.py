"""ResNet-20 on CIFAR-10, as prepared by TFDS; the recipe of He et al. 2016, section 4.2.

    pip install tensorflow && tfds build cifar10 --file_format=array_record   # once
    python train.py --config=configs/tfds_cifar10.py [--config.data.dir=DIR]

64,000 steps of 128 images. The paper reached a test error of 8.75 %. Not run in full yet: neither
cost nor metric are known.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config()
    config.batch_size = 128
    config.steps = 64_000
    config.eval_every = 2_000

    config.model.name = "resnet20"
    config.data.source = "tfds"
    config.data.name = "cifar10"
    config.data.channels = 3
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2470, 0.2435, 0.2616)
    config.data.threads = 8
    config.augment.flip = True
    config.augment.padding = 4
    config.loss.label_smoothing = 0.0

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.weight_decay = 1e-4
    config.optimizer.schedule.name = "step"
    config.optimizer.schedule.milestones = (0.5, 0.75)  # 32k and 48k steps
    return config
