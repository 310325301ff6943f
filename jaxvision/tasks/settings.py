"""What the tasks share: reading their part of a config, and running a network."""

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from jax import Array

from jaxvision import augment as aug
from jaxvision.core import InputError, Keys, check_range, find_function

Step = Callable[[Array, Any], Any]
"""(key, example) -> example: a part of an augmentation."""

Forward = Callable[..., tuple[Any, dict[str, Any]]]
"""As `jaxvision.core.Task.forward`."""


@contextlib.contextmanager
def naming(group: str) -> Iterator[None]:
    """Turns what options raise into an InputError that names their group of the config."""
    try:
        yield
    except (TypeError, ValueError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{group}: {reason}") from error


def find_loss(
    table: Mapping[str, Callable[..., Any]], settings: Any, *arguments: Any, **given: Any
) -> Callable[..., Any]:
    """The loss that a config names, with its options.

    Args:
      table: name -> loss.
      settings: `config.loss`: name and options.
      *arguments: with which it will be called.
      **given: options that the task sets.
    Raises:
      InputError: an unknown name, or options that it does not have.
    """
    options = dict(settings)
    name = options.pop("name", None)
    function = find_function(table, name, "loss")
    twice = sorted(options.keys() & given.keys())
    if twice:
        raise InputError(f"config.loss.{twice[0]} follows from the network: leave it out")
    try:
        inspect.signature(function).bind(*arguments, **options, **given)
    except TypeError as error:
        raise InputError(f"config.loss: {name} got other options than it has: {error}") from error
    return partial(function, **options)


def check_terms(terms: Any) -> None:
    """Raises InputError if a loss of the user's own returns no named (total, weight) pairs."""
    pairs = terms.values() if isinstance(terms, dict) else [None]
    for pair in pairs:
        shapes = [getattr(x, "shape", None) for x in pair] if isinstance(pair, tuple) else []
        if shapes != [(), ()]:
            raise InputError(
                f"the loss returns {terms}: give name -> (total, weight), two numbers each"
            )


def check_pair(result: Any) -> None:
    """Raises InputError if a loss of the user's own returns no pair (total, weight)."""
    numbers = isinstance(result, tuple | list) and all(hasattr(x, "shape") for x in result)
    if not numbers or [x.shape for x in result] != [(), ()]:
        raise InputError(f"the loss returns {result}: give (total, weight), two numbers")


def model_of(config: Any) -> tuple[str, dict[str, Any]]:
    """The network's name and fields in a config; groups become plain dicts."""
    fields = {
        key: dict(value) if hasattr(value, "items") else value
        for key, value in config.model.items()
    }
    return fields.pop("name"), fields


def figures_of_channels(data: Any, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std as figures for each channel.

    Args:
      data: `config.data`.
      channels: of the images.
    Raises:
      InputError: they are no such figures.
    """
    figures = []
    for name in ("mean", "std"):
        given = getattr(data, name)
        try:
            figures.append(tuple(float(x) for x in given))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"config.data.{name} is {given!r}: give a figure for each channel, as (0.5,)"
            ) from error
    mean, std = figures
    if not len(mean) == len(std) == channels:
        raise InputError(
            f"config.data has {channels} channels, but {len(mean)} figures in mean and "
            f"{len(std)} in std: give one for each channel"
        )
    for x in mean:
        check_range("config.data.mean", x, more_than=-math.inf, less_than=math.inf)
    for x in std:
        check_range("config.data.std", x, more_than=0, less_than=math.inf)
    return mean, std


def moves_of(settings: Any) -> dict[str, Any]:
    """How `config.augment` moves images: scale, ratio and translate; {} if it does not."""
    scale, ratio, translate = tuple(settings.scale), tuple(settings.ratio), settings.translate
    if (scale, ratio, translate) == ((1, 1), (1, 1), 0):
        return {}
    return {"scale": scale, "ratio": ratio, "translate": translate}


def changes_of_color(settings: Any) -> list[Step]:
    """The step that changes an example's colours as `config.augment` says, if it does."""
    how = {"hue": settings.hue, "saturation": settings.saturation, "value": settings.value}
    if tuple(how.values()) == (0, 1, 1):
        return []
    return [lambda key, example: example.replace(image=aug.random_hsv(key, example.image, **how))]


def in_turn(steps: Sequence[Step]) -> Step:
    """One step after the other, each with a key of its own."""

    def augment(key: Array, example: Any) -> Any:
        for number, step in enumerate(steps):
            example = step(jax.random.fold_in(key, number), example)
        return example

    return augment


def middle(x: Array, size: tuple[int, int]) -> Array:
    """The middle of targets, as a network without padding gives no more.

    Args:
      x: [H, W, ...].
      size: (height, width) of the result.
    """
    top, left = ((have - want) // 2 for have, want in zip(x.shape, size, strict=False))
    return x[top : top + size[0], left : left + size[1]]


def forward_of(model: nn.Module) -> Forward:
    """`forward` of a task whose network sees the images alone."""

    def forward(
        variables: dict[str, Any], batch: Any, *, keys: Keys | None, step: Array, train: bool
    ) -> tuple[Any, dict[str, Any]]:
        del step
        if not train:
            return model.apply(variables, batch.image, train=False), {}
        statistics = [name for name in variables if name != "params"]
        return model.apply(
            variables,
            batch.image,
            train=True,
            mutable=statistics,
            rngs={"dropout": keys.device},
        )

    return forward
