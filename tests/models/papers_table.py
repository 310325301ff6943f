"""The papers' classifiers that torchvision lacks, at their published sizes, as a table.

  python -m tests.models.papers_table [--only 'resnet*' ...] > FILE

For each network: its parameters, and the number that the paper or its authors publish, where it is
known; multiply-adds; and the largest logit of two images of noise in training, in bfloat16, with
the initial parameters. It stops at the first network whose parameters are not those published, or
whose logits are not finite. The last line describes the machine.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.models import CLASSIFIERS, create_model, input_size, summarize
from tests.models.tables import asked_for

# What is said: parameters, or millions of them.
SAID = {
    "alexnet_2012": 60_965_224,
    "zfnet": 62_357_608,
    "zfnet_512": 107_627_624,
    "nin": 7_595_176,
    "nin_cifar": 966_986,
    "googlenet_2014": 6_998_552,
    "inception_v4": 42.68,
    "inception_resnet_v1": None,
    "inception_resnet_v2": 55.84,
    "xception": 22.86,
    "lenet5": 61_706,
    "lenet5_1998": 60_000,
    "plain18": None,
    "plain34": None,
    "plain20": 0.27,
    "plain32": 0.46,
    "plain44": 0.66,
    "plain56": 0.85,
    "resnet20": 0.27,
    "resnet32": 0.46,
    "resnet44": 0.66,
    "resnet56": 0.85,
    "resnet110": 1.7,
    "resnet1202": 19.4,
    "preact_resnet110": 1.7,
    "preact_resnet164": 1.7,
    "preact_resnet200": 64.7,
    "preact_resnet1001": 10.3,  # 10.2 in the paper, which leaves its norms out
    "wrn_16_8": 11.0,
    "wrn_28_10": 36.5,
    "se_resnet50": 28.09,
    "se_resnet101": None,
    "se_resnet152": None,
    "se_resnext50_32x4d": None,
    "se_resnext101_32x4d": None,
    "senet154": 115_088_984,
    "resnet9": 6_573_120,
    "mobilenet_v1": 4.23,
    "mobilenet_v1_0_75": 2.6,
    "mobilenet_v1_0_5": 1.3,
    "mobilenet_v1_0_25": 0.5,
    "shufflenet_v1_g1": None,
    "shufflenet_v1_g2": None,
    "shufflenet_v1_g3": None,
    "shufflenet_v1_g4": None,
    "shufflenet_v1_g8": None,
    "nasnet_a_mobile": 5.29,
    "nasnet_a_large": 88.75,
    "densenet_cifar_40_12": 1.0,
    "densenet_cifar_100_12": 7.0,
    "densenet_cifar_bc_100_12": 0.8,
    "densenet_cifar_bc_190_40": 25.6,
    "darknet19": 20.8,
    "darknet53": 41.6,
    "cspdarknet53": 27.6,
    "extraction": None,
}


def is_said(params, said):
    """Whether a number of parameters is what is said, rounded to as many digits."""
    if said is None or isinstance(said, int):
        return said in (None, params)
    return round(params / 1e6, len(str(said).partition(".")[2])) == said


def largest_logit(name, size):
    """Of two images, in training, in bfloat16."""
    model = create_model(name, dtype=jnp.bfloat16)
    images = np.random.default_rng(0).normal(size=(2, *size)).astype(np.float32)
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), images)

    @jax.jit
    def run(variables, images):
        rngs = {"dropout": jax.random.key(1)}
        maps, _ = model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs)
        return jnp.abs(maps["logits"]).max()

    return float(run(variables, images))


def main(argv=None):
    wanted = asked_for(__doc__, argv)
    names = list(filter(wanted, SAID))
    print(
        "| network | input | parameters | published | G multiply-adds | largest logit, bfloat16 |"
    )
    print("|---|---|---|---|---|---|")
    for name in names:
        size, said = input_size(name), SAID[name]
        summary = summarize(CLASSIFIERS[name](), size)
        if not is_said(summary.params, said):
            sys.exit(f"{name} has {summary.params:,} parameters, and {said} are published")
        logit = largest_logit(name, size)
        if not np.isfinite(logit):
            sys.exit(f"the logits of {name} in bfloat16 are not finite")
        row = [
            name,
            "x".join(map(str, size)),
            f"{summary.params:,}",
            "" if said is None else f"{said:,}" if isinstance(said, int) else f"{said} M",
            f"{summary.macs / 1e9:.4g}",
            f"{logit:.2g}",
        ]
        print(f"| {' | '.join(row)} |", flush=True)
        jax.clear_caches()
    where = f"{jax.devices()[0].device_kind}; jax {jax.__version__}"
    print(f"\n{len(names)} networks on {where}")


if __name__ == "__main__":
    main()
