"""LeNet-5 on MNIST, as prepared by TFDS.

    pip install tensorflow && tfds build mnist --file_format=array_record     # once
    python train.py --config=configs/tfds_mnist.py [--config.data.dir=DIR]

20 epochs. Not run in full yet: neither cost nor metric are known.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config()
    config.batch_size = 128
    config.steps = 54_000 * 20 // config.batch_size  # 20 epochs of nine tenths of the 60,000
    config.eval_every = 54_000 // config.batch_size

    config.model.name = "lenet5"
    config.data.source = "tfds"
    config.data.name = "mnist"
    config.data.resize = "stretch"
    config.data.mean = (0.1307,)
    config.data.std = (0.3081,)
    config.augment.padding = 2
    config.augment.degrees = 10.0
    config.loss.label_smoothing = 0.0

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 0.02
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    return config
