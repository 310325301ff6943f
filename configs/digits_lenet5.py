"""LeNet-5 on the embedded digits, scikit-learn's 1,797 real scans."""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config()
    config.steps = 1200
    config.batch_size = 64
    config.eval_every = 100

    config.data.resize = "bilinear"
    config.data.cache = True
    config.augment.padding = 2
    config.augment.degrees = 10.0

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 0.02
    config.optimizer.schedule.name = "cosine"
    config.optimizer.schedule.warmup = 0.05
    return config
