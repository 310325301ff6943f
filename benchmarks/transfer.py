"""Compares training from pretrained weights with training from random ones.

  python benchmarks/transfer.py --config transfer_bccd_resnet20 --init-from FILE [--seeds 3]
                                [--scratch-rate 0.1] [-- --config.data.dir=cells ...]

Each seed trains twice for the same steps: from the pretrained weights, with the settings of the
config, and from random weights. With random weights nothing is frozen, there is no warmup of the
head, and all layers have the learning rate --scratch-rate. Arguments after "--" go to both. The
table has the test accuracy: the mean over the seeds, the least and the largest.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from timing import machine
from tqdm import tqdm

TRAIN = pathlib.Path(__file__).parent.parent / "train.py"


def accuracy(*arguments):
    """Trains in a temporary folder, and returns the accuracy on the test images."""
    with tempfile.TemporaryDirectory() as workdir:
        done = subprocess.run(
            [sys.executable, str(TRAIN), *arguments, f"--workdir={workdir}/run"],
            capture_output=True,
            text=True,
        )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])["accuracy"]


def main():
    given = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    given.add_argument("--config", required=True)
    given.add_argument("--init-from", required=True, help="as config.init_from")
    given.add_argument("--seeds", type=int, default=3)
    given.add_argument("--scratch-rate", type=float, default=0.1)
    given.add_argument("rest", nargs="*", help="further arguments of train.py, after --")
    options = given.parse_args()
    # Of repeated flags of tuples the values would add up, so those of pretrained weights are left
    # out of the other way.
    reset = {
        "init_from": "",
        "init_cfg": "",
        "init_prefix": "",
        "init_key_map": "()",
        "freeze": "()",
        "freeze_statistics": "()",
        "head_warmup.steps": "0",
        "head_warmup.only": "()",
        "optimizer.lr_multipliers": "()",
        "reinit": "()",
        "optimizer.learning_rate": f"{options.scratch_rate}",
    }
    flags = {f"--config.{key}": value for key, value in reset.items()}
    others = [item for item in options.rest if item.partition("=")[0] not in flags]
    ways = {
        "pretrained": [*options.rest, f"--config.init_from={options.init_from}"],
        "random": [*others, *(f"{flag}={value}" for flag, value in flags.items())],
    }
    found = {way: [] for way in ways}
    turns = [(seed, way) for seed in range(options.seeds) for way in ways]
    for seed, way in tqdm(turns, unit="run", disable=None):
        arguments = [f"--config={options.config}", *ways[way]]
        found[way].append(accuracy(*arguments, f"--config.seed={seed}"))
    print("| initial weights | test accuracy | least | largest |\n|---|---|---|---|")
    for way, values in found.items():
        figures = (statistics.mean(values), min(values), max(values))
        print(f"| {way} | {' | '.join(f'{x:.4f}' for x in figures)} |")
    gains = [a - b for a, b in zip(*found.values(), strict=True)]
    print(f"\ngain by seed: {', '.join(f'{gain:+.4f}' for gain in gains)}")
    print(f"{options.config} {' '.join(options.rest)}, {options.seeds} seeds; {machine('flax')}")


if __name__ == "__main__":
    main()
