"""DnCNN against noise of sigma 25, on the embedded photographs, grey.

    python train.py --config=configs/photos_dncnn.py

Costs 3 min 26 s in all on 2 cores of an AMD EPYC (2026-11-22), and reaches a PSNR of 31.03 dB and
an SSIM of 0.762 on the test photograph, "flower", from 20.63 and 0.201. The network is smaller than
DnCNN-S, which has depth 17 and width 64.
"""

from jaxvision.cli.config import default_config


def get_config():
    config = default_config("restoration")
    config.steps = 1300
    config.batch_size = 16
    config.eval_every = 1300

    config.model.name = "dncnn_s"
    config.model.depth = 8
    config.model.width = 32

    config.data.source = "photographs"
    config.data.validation_fraction = 0.0  # there is one photograph to train on, and one to test on
    config.data.color = "grey"
    config.data.patches = 6400

    config.degradation.name = "gaussian_noise"
    config.degradation.sigma = (25.0, 25.0)

    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 5e-3
    config.optimizer.schedule.name = "one_cycle"
    config.optimizer.schedule.warmup = 0.1
    return config
