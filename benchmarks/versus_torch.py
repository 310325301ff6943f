"""Compiles and runs a network of this library and the same one in torch, and compares both."""

import functools
import importlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision.interop import from_state_dict

try:
    import torch
except ImportError:
    torch = None

WAYS = ("forward", "train")
# With larger steps, rounding changes the results of deep networks with initial weights too much.
LEARNING_RATE, MOMENTUM = 1e-4, 0.9
# Largest relative differences that rounding may cause (a GPU multiplies float32 with 10 bits) in
# the logits, in the loss, and in the decrease of the loss by a step. In bfloat16 rounding is larger
# than this decrease.
AGREES = {
    "float32": {"logits": 0.01, "loss": 0.01, "step": 0.05},
    "bfloat16": {"logits": 0.1, "loss": 0.1},
}


def import_torchvision(module):
    """Imports a module of torchvision; None without torch or torchvision.

    Args:
      module: its name, such as "models".
    """
    if torch is None:
        return None
    name = f"torchvision.{module}"
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
    except RuntimeError:  # without its compiled operators, it needs their definitions
        for operator in ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool"):
            torch.library.define(f"torchvision::{operator}", "(Tensor x) -> Tensor")
        for operator in ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
            torch.library.define(f"torchvision::_{operator}_backward", "(Tensor x) -> Tensor")
        torch.library.define("torchvision::deform_conv2d", "(Tensor x) -> Tensor")
        return importlib.import_module(name)


class Ours:
    """A compiled network of this library.

    Args:
      model: network that returns "logits" [B, ..., K].
      images: f32[B, H, W, C].
      labels: i32[B, ...], classes.
      state_dict: torch's weights, or None for random ones.
      compiler_options: "forward" or "train" -> options of XLA.
    """

    def __init__(self, model, images, labels, *, state_dict=None, compiler_options=None):
        tx = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)

        def forward(params, others, images):
            return model.apply({"params": params, **others}, images, train=False)["logits"]

        def step(params, others, opt_state, images, labels):
            def objective(params):
                maps, changed = model.apply(
                    {"params": params, **others}, images, train=True, mutable=list(others)
                )
                logits = maps["logits"].astype(jnp.float32)
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
                return losses.mean(), changed

            (loss, others), grads = jax.value_and_grad(objective, has_aux=True)(params)
            updates, opt_state = tx.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), others, opt_state, loss

        init = functools.partial(model.init, train=False)
        if state_dict is None:
            variables = jax.jit(init)(jax.random.key(0), images)
        else:
            variables = from_state_dict(state_dict, jax.eval_shape(init, jax.random.key(0), images))
        variables = jax.device_put(variables)
        params = variables.pop("params")
        self._state = params, variables, tx.init(params)
        self._images, self._labels = jax.device_put((images, labels))
        options = compiler_options or {}
        self.compile_seconds = {}
        self._forward = self._compiled(
            "forward", jax.jit(forward), options, *self._state[:2], self._images
        )
        self._step = self._compiled(
            "train",
            jax.jit(step, donate_argnums=(0, 1, 2)),
            options,
            *self._state,
            self._images,
            self._labels,
        )

    def _compiled(self, way, jitted, options, *args):
        lowered = jitted.lower(*args)
        began = time.perf_counter()
        compiled = lowered.compile(compiler_options=options.get(way))
        self.compile_seconds[way] = time.perf_counter() - began
        return compiled

    def forward(self):
        """Returns the logits [B, ..., K] of an evaluation."""
        return jax.block_until_ready(self._forward(*self._state[:2], self._images))

    def train(self):
        """Makes a training step, and returns the loss before it."""
        *self._state, loss = jax.block_until_ready(
            self._step(*self._state, self._images, self._labels)
        )
        return loss


class Torchs:
    """The same network in torch, with torch's initial weights.

    Args:
      network: network that returns logits [B, K, ...].
      images: f32[B, H, W, C].
      labels: i32[B, ...].
      dtype: "float32", or "bfloat16" for torch's autocast.
      compiled: whether to use torch.compile.
      channels_last: whether its arrays have channels last in memory.
    """

    def __init__(
        self, network, images, labels, *, dtype="float32", compiled=False, channels_last=False
    ):
        self._device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        self._autocast = functools.partial(
            torch.autocast, self._device, torch.bfloat16, enabled=dtype == "bfloat16"
        )
        order = torch.channels_last if channels_last else torch.contiguous_format
        self._plain = network.to(self._device, memory_format=order)
        self._network = torch.compile(self._plain) if compiled else self._plain
        self._optimizer = torch.optim.SGD(self._plain.parameters(), LEARNING_RATE, MOMENTUM)
        images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        self._images = images.to(self._device, memory_format=order)
        self._labels = torch.from_numpy(labels).long().to(self._device)

    def state_dict(self):
        """Returns a copy of the state dict in numpy."""
        state = self._plain.state_dict()
        return {key: value.cpu().numpy().copy() for key, value in state.items()}

    def forward(self):
        """Returns the logits [B, ..., K] of an evaluation."""
        self._network.eval()
        with torch.no_grad(), self._autocast():
            logits = self._network(self._images)
        self._wait()
        return logits.movedim(1, -1)

    def train(self):
        """Makes a training step, and returns the loss before it."""
        self._network.train()
        self._optimizer.zero_grad()
        with self._autocast():
            logits = self._network(self._images)
        loss = torch.nn.functional.cross_entropy(logits.float(), self._labels)
        loss.backward()
        self._optimizer.step()
        self._wait()
        return loss.detach()

    def _wait(self):
        if self._device == "cuda":
            torch.cuda.synchronize()


def same_device():
    """Makes JAX use the CPU if torch has no GPU."""
    if torch is not None and not torch.cuda.is_available():
        jax.config.update("jax_platforms", "cpu")


def check_agreement(ours, theirs, dtype):
    """Computes the relative differences of the logits, the loss, and its decrease by a step.

    It ends the program if the networks are not the same.
    """

    def off_by(ours, theirs, least=0.0):
        return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), least))

    logits = np.asarray(ours.forward(), np.float32), theirs.forward().float().cpu().numpy()
    losses = np.array([[float(net.train()) for net in (ours, theirs)] for _ in range(2)])
    off = {
        "logits": off_by(*logits),
        "loss": off_by(*losses[0]),
        # Losses have a relative rounding error of 1e-7.
        "step": off_by(*(losses[1] - losses[0]), least=1e-4 * losses[0, 1]),
    }
    off = {name: off[name] for name in AGREES[dtype]}
    if not all(off[name] <= bound for name, bound in AGREES[dtype].items()):
        raise SystemExit(f"the networks differ by {off}, more than {AGREES[dtype]}")
    return off
