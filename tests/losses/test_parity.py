"""Losses against torch's and torchvision's, values and gradients."""

import jax
import numpy as np
import pytest

from jaxvision import losses
from tests.makers import boxes
from tests.ops.parity import import_torchvision

pytestmark = pytest.mark.parity
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=3, size=(5, 6, 4)).astype("f4")
TARGETS = RNG.uniform(size=LOGITS.shape).astype("f4")
LABELS = np.where(RNG.random((5, 6)) < 0.2, 255, RNG.integers(0, 4, (5, 6)))
WEIGHTS = (0.5, 1.0, 2.0, 0.1)


def check(ours, theirs, predicted):
    """The mean of ours, total / weight, equals theirs, and so do the gradients."""
    torch = pytest.importorskip("torch")

    def mean(x):
        total, weight = ours(x)
        return total / weight

    value, gradient = jax.jit(jax.value_and_grad(mean))(predicted)
    x = torch.tensor(predicted, requires_grad=True)
    expected = theirs(torch, x)
    expected.backward()
    np.testing.assert_allclose(value, expected.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, x.grad, rtol=1e-4, atol=1e-6)


def test_losses_of_numbers():
    for ours, name, options in [
        (losses.l1_loss, "l1_loss", {}),
        (losses.l2_loss, "mse_loss", {}),
        (losses.huber_loss, "huber_loss", {"delta": 0.7}),
        (losses.smooth_l1_loss, "smooth_l1_loss", {"beta": 0.7}),
    ]:
        check(
            lambda x, ours=ours, options=options: ours(x, TARGETS, **options),
            lambda torch, x, name=name, options=options: getattr(torch.nn.functional, name)(
                x, torch.tensor(TARGETS), **options
            ),
            LOGITS,
        )


def test_cross_entropy_with_weights_of_classes_and_ignored_pixels():
    check(
        lambda x: losses.pixel_cross_entropy(x, LABELS, class_weights=WEIGHTS),
        lambda torch, x: torch.nn.functional.cross_entropy(
            x.moveaxis(-1, 0)[None],
            torch.tensor(LABELS)[None],
            weight=torch.tensor(WEIGHTS),
            ignore_index=255,
        ),
        LOGITS,
    )


def test_binary_cross_entropy():
    check(
        lambda x: losses.binary_cross_entropy(x, TARGETS, positive_weight=3.0),
        lambda torch, x: torch.nn.functional.binary_cross_entropy_with_logits(
            x, torch.tensor(TARGETS), pos_weight=torch.tensor(3.0)
        ),
        LOGITS,
    )


@pytest.mark.parametrize("alpha", [0.3, None])
@pytest.mark.parametrize("targets", [TARGETS, TARGETS.round()], ids=["soft", "hard"])
def test_sigmoid_focal_loss(alpha, targets):
    _, theirs = import_torchvision("ops")
    check(
        lambda x: losses.sigmoid_focal_loss(x, targets, alpha=alpha, gamma=1.5),
        lambda torch, x: theirs.sigmoid_focal_loss(
            x,
            torch.tensor(targets),
            alpha=-1 if alpha is None else alpha,
            gamma=1.5,
            reduction="mean",
        ),
        LOGITS,
    )


@pytest.mark.parametrize(
    "name", ["generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss"]
)
def test_losses_of_boxes(name):
    _, theirs = import_torchvision("ops")
    predicted, target = boxes(20)(RNG), boxes(20)(RNG)
    check(
        lambda x: getattr(losses, name)(x, target),
        lambda torch, x: getattr(theirs, name)(x, torch.tensor(target), reduction="mean"),
        predicted,
    )
