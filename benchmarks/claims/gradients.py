"""Do shortcuts keep gradients alive? Their norms, layer by layer, in networks just initialised.

  python benchmarks/claims/gradients.py --data FILE.npz [--widths 16 32 64] [--seeds 3]
                                        [--picture docs/gradients.png]

Networks of 20 and 56 layers with and without shortcuts, and with batch norm or none: the norm of
the loss's gradient with respect to each 3x3 kernel, over the norm of that kernel, on one batch of
CIFAR-10. The table has it at the first and at the last of these layers, and the ratio of the two:
what becomes of it on the way back.
"""

import functools

import jax
import numpy as np
import optax
from training import cifar, draw, network, parser, where


def layer_of(path):
    """Sorts conv1, layer1_0_conv1, ... as they come."""
    name = path[0].key
    stage, _, rest = name.removeprefix("layer").partition("_")
    block, _, conv = rest.partition("_")
    return (0, 0, name) if name == "conv1" else (int(stage), int(block), conv)


def gradient_norms(model, images, labels, seed):
    """|gradient| / |kernel| of each 3x3 convolution, in the order in which they come."""
    variables = jax.jit(functools.partial(model.init, train=False))(
        jax.random.key(seed), images[:1]
    )
    params = variables.pop("params")

    @jax.jit
    def gradient(params):
        def objective(params):
            maps, _ = model.apply(
                {"params": params, **variables}, images, train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(maps["logits"], labels)
            return losses.mean()

        return jax.grad(objective)(params)

    kernels = {
        layer_of(path): np.linalg.norm(slope) / np.linalg.norm(value)
        for (path, slope), value in zip(
            jax.tree.leaves_with_path(gradient(params)), jax.tree.leaves(params), strict=True
        )
        if value.ndim == 4
    }
    return np.array([kernels[place] for place in sorted(kernels)])


def main():
    given = parser(__doc__, steps=0, widths=(16, 32, 64))
    given.add_argument("--depths", type=int, nargs="+", default=[20, 56])
    options = given.parse_args()
    names = [f"{kind}{depth}" for kind in ("plain", "resnet") for depth in options.depths]
    images, labels = cifar(options.data)
    curves = {}
    print("| network | norm | first layer | last layer | first over last |\n|---|---|---|---|---|")
    for title, fields in (("batch norm", {}), ("none", {"norm": None})):
        for name in names:
            model = network(name, options, **fields)
            norms = []
            for seed in range(options.seeds):
                batch = np.random.default_rng(seed).permutation(len(images))[: options.batch]
                norms.append(gradient_norms(model, images[batch], labels[batch], seed))
            norms = curves[f"{name}, {title}"] = np.stack(norms)
            first, last = norms[:, 0].mean(), norms[:, -1].mean()
            row = [name, title, f"{first:.2e}", f"{last:.2e}", f"{first / last:.2g}"]
            print(f"| {' | '.join(row)} |", flush=True)
    draw(options.picture, curves, x="layer", y="|gradient| / |kernel|", log=True)
    print(where(options))


if __name__ == "__main__":
    main()
