"""A loss of your own on the embedded digits: write it, test it, train with it, inspect it.

    python docs/own_loss.py [--workdir=runs/own_loss] [--steps=600] [--picture=FILE]

docs/losses.md explains the parts. The script takes about a minute on 2 CPU cores.
"""

import argparse
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import jaxvision
from jaxvision import data, losses, testing
from jaxvision.cli.main import run
from jaxvision.core import divide, sum_terms

EPSILON = 2.0


def poly_loss(logits, label, *, epsilon=1.0):
    """Poly-1 cross entropy: -log p + epsilon (1 - p), for the probability p of the right class.

    logits f32[K], label i32[] -> (total, weight). Leng et al. 2022 ("PolyLoss"), equation 6.
    """
    total, weight = losses.cross_entropy(logits, label)
    p = jax.nn.softmax(logits)[label]
    return total + epsilon * (1 - p), weight


def slow_poly_loss(logits, label, *, epsilon=1.0):
    exps = np.exp(np.float64(logits))
    p = exps[label] / exps.sum()
    return -np.log(p) + epsilon * (1 - p), np.array(1.0)


def worst_box_loss(predicted, target, mask):
    """The largest error of any coordinate: f32[N, 4], f32[N, 4], bool[N] -> (total, weight)."""
    error = jnp.where(mask[:, None], predicted - target, 0)
    return jnp.abs(error).max(initial=0), jnp.float32(1)


def mean_loss(logits, labels, mask):
    sums = sum_terms({"poly": jax.vmap(poly_loss)(logits, labels)}, mask)
    return divide(*sums["poly"])


def check():
    logits, label = np.float32([0.3, -1.2, 2.5]), np.int32(1)
    # The loss equals the slow reference: eagerly, under jit, vmap and pmap.
    testing.check_op(poly_loss, slow_poly_loss, logits, label, epsilon=2.0)
    testing.check_finite_gradients(poly_loss, np.float32([100, -100, 0]), label)

    rng = np.random.default_rng(0)
    predicted, target = rng.normal(size=(2, 5, 4)).astype("f4")
    # Padding boxes, whatever they contain, change neither the loss nor its gradient.
    testing.check_padding_invariance(
        worst_box_loss, predicted, target, np.ones(5, bool), padded=(0, 1), mask=2
    )
    nothing = np.zeros(5, bool)
    testing.check_finite_gradients(worst_box_loss, predicted, target, nothing)

    # Filler images do not count.
    batch, real = rng.normal(size=(4, 3)).astype("f4"), np.arange(4) < 3
    np.testing.assert_allclose(
        mean_loss(batch, np.arange(4) % 3, real),
        np.mean([slow_poly_loss(batch[i], i % 3)[0] for i in range(3)]),
        rtol=1e-5,
    )


def train(workdir, steps):
    loss = {"name": f"{__file__}:poly_loss", "epsilon": EPSILON}
    flags = [f"--workdir={workdir}", f"--config.steps={steps}", f"--config.loss={loss}"]
    if code := run("train", ["train.py", *flags]):
        raise SystemExit(code)


def task_with_it():
    """Creates the task of the digits with this loss, in Python instead of on the command line."""
    task = jaxvision.tasks.classification(
        jaxvision.create_model("lenet5", num_classes=10),
        jaxvision.Inputs((32, 32), channels=1, mean=(0.5,), std=(0.5,), resize="stretch"),
        class_names=10,
        loss=functools.partial(poly_loss, epsilon=EPSILON),
    )
    return task


def inspect(workdir):
    """Returns loss and norm of the gradient of each test digit: (images, labels, losses, norms)."""
    task, variables, *_ = jaxvision.load_run(workdir)

    def loss_of(params, example):
        batch = jax.tree.map(lambda x: x[None], example)
        given = {**variables, "params": params}
        outputs, _ = task.forward(given, batch, keys=None, step=0, train=False)
        return divide(*poly_loss(outputs["logits"][0], example.label, epsilon=EPSILON))

    @jax.jit
    @jax.vmap
    def losses_and_norms(example):
        loss, gradient = jax.value_and_grad(loss_of)(variables["params"], task.prepare(example))
        return loss, optax.tree.norm(gradient)

    transform = data.ToClassification(task.inputs, num_classes=10)
    batches = list(data.EvalLoader(data.Digits("test"), transform, batch_size=64))
    found = [(b.image, b.label, *jax.device_get(losses_and_norms(b))) for b in batches]
    real = np.concatenate([b.mask for b in batches])
    return [np.concatenate(column)[real] for column in zip(*found, strict=True)]


def draw(images, labels, values, norms, picture):
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(3, 2))
    left.suptitle("The digits with the highest loss, and the norm of their gradient")
    hardest = np.argsort(-values)[:18]
    for axes, i in zip(left.subplots(3, 6).flat, hardest, strict=True):
        axes.imshow(images[i, :, :, 0], cmap="gray_r")
        axes.set_title(f"{labels[i]}: {values[i]:.2g}, {norms[i]:.2g}", fontsize=8, pad=2)
        axes.axis("off")
    axes = right.subplots()
    axes.loglog(values, norms, ".", alpha=0.5)
    axes.set(xlabel="loss of one digit", ylabel="norm of its gradient")
    axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/own_loss", help="of the run")
    parser.add_argument("--steps", type=int, default=600, help="of training")
    parser.add_argument("--picture", type=pathlib.Path, help="default: hardest.png in the workdir")
    given = parser.parse_args()
    check()
    print(
        "checked: the loss equals the slow reference, is finite, and does not change with padding"
    )
    train(given.workdir, given.steps)
    images, labels, values, norms = inspect(given.workdir)
    print(f"{len(values)} test digits: mean loss {values.mean():.4f}, mean norm {norms.mean():.4f}")
    for i in np.argsort(-values)[:5]:
        print(f"digit {labels[i]}: loss {values[i]:.3f}, norm of its gradient {norms[i]:.2f}")
    picture = given.picture or given.workdir / "hardest.png"
    draw(images, labels, values, norms, picture)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main()
