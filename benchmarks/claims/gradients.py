"""Measures gradients layer by layer in networks with and without shortcuts, before training.

  python benchmarks/claims/gradients.py --data FILE.npz [--widths 16 32 64] [--seeds 3]
                                        [--picture docs/gradients.png]

The networks have 20 and 56 layers, with and without shortcuts and batch norm. For each 3x3 kernel,
the script computes the norm of the gradient of the loss divided by the norm of the kernel, on one
batch of CIFAR-10. The table has this at the first and the last of these layers, and the ratio of
the two, which shows how gradients change in the backward pass.
"""

import jax
import numpy as np
from training import cifar, draw, mean_loss, network, parser, start, where

gradient = jax.jit(jax.grad(mean_loss, argnums=1, has_aux=True), static_argnums=0)


def place_of(name):
    """Returns a sort key that puts conv1, layer1_0_conv1, ... in the order of the network."""
    stage, _, rest = name.removeprefix("layer").partition("_")
    block, _, conv = rest.partition("_")
    return (0, 0, name) if name == "conv1" else (int(stage), int(block), conv)


def gradient_norms(model, images, labels, seed):
    """Computes |gradient| / |kernel| of each 3x3 convolution, in the order of the network."""
    params, others = start(model, images[:1], seed)
    slopes, _ = gradient(model, params, others, images, labels)
    layers = sorted((name for name in params if "conv" in name), key=place_of)
    slopes, kernels = (
        np.array([np.linalg.norm(tree[name]["kernel"]) for name in layers])
        for tree in (slopes, params)
    )
    return slopes / kernels


def main():
    given = parser(__doc__, widths=(16, 32, 64))
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
