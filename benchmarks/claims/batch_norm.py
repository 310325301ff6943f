"""Trains a plain network with and without batch norm, at three learning rates, on CIFAR-10.

  python benchmarks/claims/batch_norm.py --data FILE.npz [--steps 300] [--widths 8 16 32]
                                         [--seeds 3] [--picture docs/batch_norm.png]

The claim (Ioffe & Szegedy 2015, "Batch normalization", section 3.3) is that batch norm permits
learning rates at which training fails without it. The table has the mean training loss of the last
tenth of the steps: the mean over the seeds, the least and the largest. "diverged" counts seeds
whose loss is above chance (log 10) or NaN.
"""

import math

from training import Training, cifar, draw, network, parser, smoothed, where

RATES = (0.01, 0.1, 1.0)


def main():
    given = parser(__doc__, steps=300, widths=(8, 16, 32))
    given.add_argument("--model", default="plain20", help="a network with fields widths and norm")
    options = given.parse_args()
    images, labels = cifar(options.data)
    curves = {}
    print("| norm | learning rate | training loss | least | largest | diverged |")
    print("|---|---|---|---|---|---|")
    for title, fields in (("batch norm", {}), ("none", {"norm": None})):
        training = Training(network(options.model, options, **fields), images, labels)
        for rate in RATES:
            losses, ends = training.losses_of_seeds(options, rate)
            diverged = int((~(ends <= math.log(10))).sum())
            figures = [f"{x:.3f}" for x in (ends.mean(), ends.min(), ends.max())]
            row = [title, f"{rate:g}", *figures, f"{diverged} of {options.seeds}"]
            print(f"| {' | '.join(row)} |", flush=True)
            if diverged < options.seeds:
                curves[f"{title}, {rate:g}"] = smoothed(losses, 25)
    draw(options.picture, curves, x="step (mean of 25)", y="training loss")
    print(where(options))


if __name__ == "__main__":
    main()
