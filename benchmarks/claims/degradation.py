"""Compares the training losses of plain and residual networks of two depths on CIFAR-10.

  python benchmarks/claims/degradation.py --data FILE.npz [--steps 600] [--widths 8 16 32]
                                          [--seeds 3] [--picture docs/degradation.png]

Plain and residual networks of 20 and 56 layers (He, Zhang, Ren & Sun 2016, "Deep residual learning
for image recognition", figures 1 and 6) train for the same steps on the same images. The table has
the mean training loss of the last tenth of the steps: the mean over the seeds, the least and the
largest. The claim is that depth makes plain networks worse, and shortcuts prevent this: plain-56
ends above plain-20, and ResNet-56 does not end above ResNet-20.
"""

from training import Training, cifar, draw, network, parser, smoothed, where


def main():
    given = parser(__doc__, steps=600, widths=(8, 16, 32))
    given.add_argument("--depths", type=int, nargs=2, default=[20, 56], help="shallow, deep")
    given.add_argument("--learning-rate", type=float, default=0.1)
    options = given.parse_args()
    images, labels = cifar(options.data)
    shallow, deep = options.depths
    curves, last = {}, {}
    print("| network | training loss | least | largest |\n|---|---|---|---|")
    for kind in ("plain", "resnet"):
        for depth in options.depths:
            name = f"{kind}{depth}"
            training = Training(network(name, options), images, labels)
            losses, ends = training.losses_of_seeds(options, options.learning_rate)
            figures = [f"{x:.3f}" for x in (ends.mean(), ends.min(), ends.max())]
            print(f"| {' | '.join([name, *figures])} |", flush=True)
            last[kind, depth], curves[name] = ends.mean(), smoothed(losses, 25)
    degraded = last["plain", deep] > last["plain", shallow]
    prevented = last["resnet", deep] <= last["resnet", shallow]
    print(
        f"\nplain-{deep} above plain-{shallow}: {degraded}; "
        f"ResNet-{deep} not above ResNet-{shallow}: {prevented}"
    )
    draw(options.picture, curves, x="step (mean of 25)", y="training loss")
    print(where(options))


if __name__ == "__main__":
    main()
