"""ResNet-9 on CIFAR-10, as prepared by TFDS; the recipe of Page 2018 ("How to train your ResNet").

    pip install tensorflow && tfds build cifar10 --file_format=array_record   # once
    python train.py --config=configs/tfds_cifar10_resnet9.py [--config.data.dir=DIR]

24 epochs of batches of 512, with one cycle of the learning rate: up to 0.4 until epoch 5 and down
to 0. The source's cycle is linear, and its Cutout never hides less than a square of 8 pixels; it
reached 94.1 % on the test images. Not run in full yet: neither cost nor metric are known.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config()
    config.batch_size = 512
    config.steps = 24 * 50_000 // 512
    config.eval_every = 5 * 50_000 // 512

    config.model.name = "resnet9"
    config.data.source = "tfds"
    config.data.name = "cifar10"
    config.data.channels = 3
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2470, 0.2435, 0.2616)
    config.data.threads = 8
    config.augment.padding = 4
    config.augment.flip = True
    config.augment.cutout = 8
    config.loss.label_smoothing = 0.0

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.4
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 5 / 24
    return config
