"""What the constructors of tasks share: running a network, calling a loss, checking both."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxvision.augment import Compose, normalize
from jaxvision.core import (
    AXIS,
    InputError,
    Inputs,
    Keys,
    OptionError,
    Terms,
    describe,
    extent_of,
    option_errors,
)
from jaxvision.metrics import confused_pairs, count_confusions
from jaxvision.tasks.names import NAMES

Forward = Callable[..., tuple[Any, dict[str, Any]]]
"""As `jaxvision.core.Task.forward`."""
E = TypeVar("E")

MOST_CONFUSED_CLASSES = 2000
"""Of so many classes at most an evaluation has the matrix of confusions, then of 32 MB."""


def names_of(
    names: Sequence[str] | int,
    *,
    option: str = "class_names",
    least: int = 1,
    most: int | None = None,
) -> tuple[str, ...]:
    """The names of the classes; a number of classes gives "0", "1", ...

    Args:
      names: the names, or how many there are.
      option: name of the argument that they were given as.
      least: number of names that the task needs.
      most: number of names that it can take; None: any.
    Raises:
      OptionError: there are fewer or more, or a name is no text.
    """
    if isinstance(names, int):
        names = [str(number) for number in range(names)]
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise OptionError(option, f"{option} is {names!r}: give names, as ('cat', 'dog')")
    if len(names) < least or (most is not None and len(names) > most):
        wanted = f"at least {least}" if len(names) < least else f"at most {most}"
        raise OptionError(option, f"{option} has {len(names)} names: give {wanted}")
    return tuple(names)


def synchronised(model: nn.Module, sync_batch_norm: bool) -> nn.Module:
    """The network with batch norms that use the statistics of all devices, where it has any.

    Args:
      model: the network.
      sync_batch_norm: whether they do; if not, the network is returned as it is.
    """
    fields = {field.name for field in dataclasses.fields(model)}
    if sync_batch_norm and "axis_name" in fields and model.axis_name is None:
        return model.clone(axis_name=AXIS)
    return model


def forward_of(
    model: nn.Module, given: Callable[[Any, Keys | None], dict[str, Any]] | None = None
) -> Forward:
    """`forward` of a task.

    Args:
      model: the network.
      given: (batch, keys, which are None in evaluation) -> further keyword arguments of the network
        besides the images; None: there are none.
    """

    def forward(
        variables: dict[str, Any], batch: Any, *, keys: Keys | None, step: Array, train: bool
    ) -> tuple[Any, dict[str, Any]]:
        del step
        more = {} if given is None else given(batch, keys if train else None)
        if not train:
            return model.apply(variables, batch.image, train=False, **more), {}
        statistics = [name for name in variables if name != "params"]
        return model.apply(
            variables,
            batch.image,
            train=True,
            mutable=statistics,
            rngs={"dropout": keys.device},
            **more,
        )

    return forward


def init_of(model: nn.Module, shape: tuple[int, ...]) -> Callable[[Array], dict[str, Any]]:
    """`init` of a task, for images of a shape (H, W, C)."""

    def init(key: Array) -> dict[str, Any]:
        return model.init(key, jnp.zeros((1, *shape)), train=False)

    return init


def maps_of_image(model: nn.Module, shape: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the maps that a network gives for one image of a shape (H, W, C).

    Raises:
      OptionError: the network cannot take such images.
    """

    def run(key: Array) -> dict[str, Array]:
        maps, _ = model.init_with_output(key, jnp.zeros((1, *shape)), train=False)
        if not isinstance(maps, Mapping):
            raise TypeError(
                f"the network returns {type(maps).__name__}: return a dict of named maps, as "
                '{"logits": x}'
            )
        return {name: x[0] for name, x in maps.items()}

    with option_errors("model"):
        return jax.eval_shape(run, jax.random.key(0))


def check_map(
    maps: Mapping[str, Any],
    name: str,
    depth: int,
    what: str,
    *,
    how: str = "num_classes={}",
) -> None:
    """Raises OptionError unless a network gives a map of a number of channels.

    Args:
      maps: of the network, by name.
      name: of the map.
      depth: channels that it must have.
      what: of which there are so many, for the message.
      how: a network is created that has them, for the message.
    """
    if name not in maps:
        raise OptionError("model", f"model gives no map {name!r}, but {', '.join(maps)}")
    channels = maps[name].shape[-1]
    if channels != depth:
        raise OptionError(
            "model",
            f"model has {channels} channels of {name}, but there are {depth} {what}: create it "
            f"with {how.format(depth)}",
        )


def prepare_of(inputs: Inputs) -> Callable[[Any], Any]:
    """`prepare` of a task: the image becomes normalised float32, and its padding 0."""

    def prepare(example: Any) -> Any:
        image = normalize(example.image, mean=inputs.mean, std=inputs.std)
        if inputs.pads:
            inside = (
                jnp.arange(side) < end
                for side, end in zip(image.shape[:2], extent_of(example), strict=True)
            )
            image = jnp.where(jnp.logical_and.outer(*inside)[:, :, None], image, 0)
        return example.replace(image=image)

    return prepare


def augment_of(augment: Sequence[Any]) -> Compose:
    """One augmentation of several, in their order."""
    return Compose(tuple(augment))


def with_key_and_step(function: Callable[..., Any]) -> Callable[..., Any]:
    """A loss that takes `key` and `step` by name, whether it needs them or not.

    Args:
      function: a loss; it gets the arguments `key` and `step` if its signature names them.
    """
    wanted = _wanted(function)

    def call(*arguments: Any, key: Array, step: Array, **options: Any) -> Any:
        given = {"key": key, "step": step}
        return function(*arguments, **{name: given[name] for name in wanted}, **options)

    return call


def check_augment(augmentation: Compose, example: E) -> E:
    """Goes through an augmentation, without computing it, for what its steps raise.

    Args:
      augmentation: of a task.
      example: one without partners, of zeros.
    Returns:
      The shapes and dtypes of the result.
    Raises:
      OptionError: a step fails, or the result is no such example, or its image has another shape.
    """
    count = augmentation.partners
    if count:
        others = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (count, *x.shape)), example)
        example = example.replace(partners=others)
    with option_errors("augment"):
        try:
            result = jax.eval_shape(augmentation, jax.random.key(0), example)
        except AttributeError as error:  # a field that such examples do not have
            raise TypeError(str(error)) from error
    if not isinstance(result, type(example)):
        raise OptionError("augment", f"augment returns {type(result).__name__}: return the example")
    if result.image.shape != example.image.shape:
        raise OptionError(
            "augment",
            f"augment returns images of the shape {result.image.shape}: return the shape that they "
            f"have, {example.image.shape}",
        )
    return result


def _wanted(function: Callable[..., Any]) -> list[str]:
    """Which of `key` and `step` a function names, and does not have already.

    Raises:
      TypeError: it is a `functools.partial` whose arguments do not fit.
    """
    try:
        parameters = inspect.signature(function).parameters
    except ValueError as error:
        raise TypeError(str(error.__cause__ or error)) from error
    known: set[str] = set()
    while isinstance(function, functools.partial):
        known |= function.keywords.keys()
        function = function.func
    return [name for name in ("key", "step") if name in parameters and name not in known]


def check_signature(name: str, function: Callable[..., Any], *arguments: Any, **given: Any) -> None:
    """Raises OptionError if a function cannot be called so; arguments are only counted.

    Args:
      name: of the option that the function was given as.
      function: a loss; `key` and `step` are passed to it if it names them.
      *arguments: what it is called with.
      **given: what it is called with by name.
    """
    try:
        given = {**dict.fromkeys(_wanted(function)), **given}
        inspect.signature(function).bind(*arguments, **given)
    except TypeError as error:
        title = getattr(function, "__name__", getattr(function, "func", function))
        title = getattr(title, "__name__", title)
        raise OptionError(name, f"{name}: {title} cannot be called as it is: {error}") from error


def as_terms(result: Any, name: str) -> Terms:
    """The named terms of a loss that returns them, or one pair (total, weight).

    Args:
      result: what the loss returned.
      name: of the term, where it is one pair.
    Raises:
      InputError: it is neither.
    """
    terms = result if isinstance(result, dict) else {name: result}
    for pair in terms.values():
        shapes = [getattr(x, "shape", None) for x in pair] if isinstance(pair, tuple | list) else []
        if shapes != [(), ()] and not _are_numbers(pair):
            raise InputError(
                f"the loss returns {result}: return (total, weight), two numbers, or a dict of "
                "such pairs by name"
            )
    return terms


def check_loss(option: str, function: Callable[..., Any], *arguments: Array, term: str) -> None:
    """Goes through a loss, without computing it, for what it raises and returns.

    Args:
      option: name of the argument that it was given as.
      function: the loss of one example.
      *arguments: arrays of the shapes and dtypes that it will get.
      term: name of its term, where it returns one pair.
    Raises:
      OptionError: it cannot be called so, it fails, or it does not return (total, weight) pairs.
    """
    check_signature(option, function, *arguments)

    def run(*arguments: Array) -> Terms:
        how = {"key": jax.random.key(0), "step": jnp.int32(0)}
        return as_terms(with_key_and_step(function)(*arguments, **how), term)

    with option_errors(option):
        jax.eval_shape(run, *arguments)


def _are_numbers(pair: Any) -> bool:
    return (
        isinstance(pair, tuple | list)
        and len(pair) == 2
        and all(jnp.shape(x) == () and not isinstance(x, str) for x in pair)
    )


def crop_centre(x: Array, size: tuple[int, int]) -> Array:
    """The centre of targets, as the maps of a network without padding are smaller than its input.

    Args:
      x: [H, W, ...].
      size: (height, width) of the result.
    """
    top, left = ((have - want) // 2 for have, want in zip(x.shape, size, strict=False))
    return x[top : top + size[0], left : left + size[1]]


def confusion_tables(
    labels: np.ndarray, predicted: np.ndarray, num_classes: int
) -> dict[str, np.ndarray]:
    """Which class was taken for which: the tables "confused_pairs" and "confusions".

    The latter, a matrix, is left out if there are more than `MOST_CONFUSED_CLASSES`.

    Args:
      labels: int[N], the true classes.
      predicted: int[N], the predicted classes.
      num_classes: K.
    """
    tables = {"confused_pairs": confused_pairs(labels, predicted, num_classes=num_classes)}
    if num_classes <= MOST_CONFUSED_CLASSES:
        tables["confusions"] = count_confusions(labels, predicted, num_classes=num_classes)
    return tables


def described(**parts: Any) -> dict[str, Any]:
    """The description of some parts of a task, without those that are empty."""
    return {name: describe(part, NAMES) for name, part in parts.items() if part not in (None, ())}
