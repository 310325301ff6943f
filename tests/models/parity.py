"""Networks in torch as a reference, with norms that do something."""

import jax
import numpy as np

from jaxvision.interop import from_state_dict, to_state_dict
from jaxvision.models import create_model
from tests.models.variables import shapes_of
from tests.ops.parity import import_torchvision


def torchvision_network(name, **fields):
    """(torch, torchvision's network of a name, of the same numbers each time)."""
    torch, models = import_torchvision("models")
    torch.manual_seed(0)
    build = getattr(models, name, None) or getattr(models.segmentation, name)
    return torch, build(**fields)


def to_torch(torch, images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def outputs_of(torch, network, images):
    """What a network gives, in numpy."""
    with torch.no_grad():
        return jax.tree.map(lambda x: x.numpy(), network(to_torch(torch, images)))


def state_of(network):
    """A network's state dict, in numpy."""
    return {key: value.numpy() for key, value in network.state_dict().items()}


def settle(torch, network, images):
    """No parameter is constant or small, and statistics are near those of what the layers see."""
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for name, values in network.named_parameters():
            leaf = name.rpartition(".")[2]
            if not leaf.endswith(("weight", "bias")):  # Tables, tokens and scales.
                values += torch.empty_like(values).uniform_(-1, 1)
            elif values.min() == values.max():  # Zeros and ones.
                values += torch.empty_like(values).uniform_(-0.5, 0.5)
        for norm in norms:  # Around zero, rounding would grow by a fifth at each norm and ReLU.
            norm.bias.uniform_(0.5, 1.5)

    def see(norm, inputs):
        var, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
        var = var.clamp(min=0.1 * var.mean())  # Of few values some hardly vary.
        norm.running_mean = mean + 0.2 * var.sqrt() * torch.randn_like(mean)
        norm.running_var = var * torch.empty_like(var).uniform_(0.7, 1.4)

    # One after another: what a layer sees is what those before it give with statistics of theirs.
    hooks = [norm.register_forward_pre_hook(see) for norm in norms]
    outputs_of(torch, network.eval(), images)
    for hook in hooks:
        hook.remove()


def check_round_trip(state, back):
    """A state dict has come back whole, but for counters of batches."""
    assert {key: x.shape for key, x in back.items()} == {key: x.shape for key, x in state.items()}
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_allclose(back[key], value, rtol=0, atol=1e-6, err_msg=key)
            assert back[key].dtype == value.dtype


def check_maps(torch, theirs, ours, images, names, *, round_trip=True):
    """What both give in evaluation is equal to 1e-4 of the largest.

    Args:
      torch: the library.
      theirs: the network in torch; its state dict fits ours.
      ours: the network.
      images: f32[B, H, W, C].
      names: of ours -> of theirs, where that gives a dict, else None.
      round_trip: whether their state dict comes back whole, as torchvision's do.
    """
    settle(torch, theirs, images)
    given, state = outputs_of(torch, theirs, images), state_of(theirs)
    variables = from_state_dict(state, shapes_of(ours, images)[1])
    if round_trip:
        check_round_trip(state, to_state_dict(variables, model=ours))
    maps = jax.jit(lambda variables: ours.apply(variables, images, train=False))(variables)
    for name, their_name in names.items():
        expected = given if their_name is None else given[their_name]
        if expected.ndim == 4:
            expected = expected.transpose(0, 2, 3, 1)
        assert maps[name].shape == expected.shape
        # Not a constant: it has come from the images, and through the whole network.
        assert expected.std(axis=0).max() > 1e-3 * np.abs(expected).max()
        assert np.abs(maps[name] - expected).max() <= 1e-4 * np.abs(expected).max(), name


def check_torchvision_logits(name, images):
    """check_maps of the logits of torchvision's network of a name, and of ours, of 10 classes."""
    torch, theirs = torchvision_network(name, num_classes=10)
    check_maps(torch, theirs, create_model(name, num_classes=10), images, {"logits": None})
