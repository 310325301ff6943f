"""NASNet (Zoph, Vasudevan, Shlens & Le 2018, "Learning transferable architectures for scalable
image recognition")."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxvision.core import InputError
from jaxvision.layers import (
    Conv,
    Norm,
    batch_norm,
    conv_norm_act,
    drop_path,
    dtypes_of,
    he_normal,
    norm_of,
    run_block,
)
from jaxvision.models.sides import check_sides
from jaxvision.ops import avg_pool, global_avg_pool, max_pool

AVERAGE, MAXIMUM, IDENTITY = "average", "maximum", "identity"
"""3x3 poolings, and the operation that does not change a map."""

Operation = int | str
"""One of these operations, or the kernel size of separable convolutions."""

Step = tuple[Operation, int]
"""An operation, and the state to which it is applied."""


class Cell(NamedTuple):
    """A small graph of states: 0 is made from the map before the cell, 1 from the map before it."""

    blocks: tuple[tuple[Step, Step], ...]
    """Pairs of steps, whose sums are the next states: 2, 3 and so on."""
    joined: tuple[int, ...]
    """The states whose channels are concatenated to the output of the cell."""


NORMAL = Cell(
    blocks=(
        ((5, 0), (3, 1)),
        ((5, 1), (3, 1)),
        ((AVERAGE, 0), (IDENTITY, 1)),
        ((AVERAGE, 1), (AVERAGE, 1)),
        ((3, 0), (IDENTITY, 0)),
    ),
    joined=(1, 2, 3, 4, 5, 6),
)
REDUCTION = Cell(
    blocks=(
        ((5, 0), (7, 1)),
        ((MAXIMUM, 0), (7, 1)),
        ((AVERAGE, 0), (5, 1)),
        ((IDENTITY, 3), (AVERAGE, 2)),
        ((3, 2), (MAXIMUM, 0)),
    ),
    joined=(3, 4, 5, 6),
)
"""NASNet-A's cells: the paper's figure 4."""

AUX_CHANNELS, AUX_HIDDEN = 128, 768


class NASNet(nn.Module):
    """The NASNet network. Its cells were found by a search, and use the outputs of the two before.

    In a REDUCTION, the steps from states 0 and 1 have stride 2. Padding is symmetric: on maps with
    even sides a stride selects other pixels than in the TensorFlow code of the authors, but the
    same number.

    Cells have the names of the authors, such as cell_stem_0, cell_0 and reduction_cell_0. The names
    of layers in a cell are 1x1 and previous for those that compute states 0 and 1, and
    block{i}_left or block{i}_right with depthwise1, pointwise1, depthwise2 and pointwise2 for
    separable convolutions. A norm has the name of its convolution with the suffix _bn.

    Attributes:
      cells: number of normal cells of each of three sizes, N in the paper.
      filters: channels of each state in the first of them; they double at every reduction. The last
        map has 24 times as many, which is the second number in the paper's names.
      stem: channels of the first convolution.
      skip_reduction: whether the cell after a reduction uses, as its second input, not the input of
        the reduction but the map before it, as in the large network of the authors.
      aux: whether to build the auxiliary classifier, for a second loss in training.
      dropout: dropout rate of the pooled features in training.
      drop_path: rate of stochastic depth of the steps of the last cell in training; cell i of n has
        i / n of it. (The authors also increase it from 0 during training.)
      act: activation before each convolution except the first, and before the last pooling.
      norm: after each convolution except depthwise ones; None gives convolutions with a bias.

    Call:
      images f32[B, H, W, C], sides at least 19 -> {"c1": [B, H/2, W/2, 32], "c2": [B, H/4, W/4,
      44], "c3": [B, H/8, W/8, 264], "c4": [B, H/16, W/16, 528], "c5": [B, H/32, W/32, 1056], the
      last maps of their sizes, without the activation after them, "pooled": [B, 1056], "logits":
      [B, num_classes], and in training with `aux` "aux": [B, num_classes]}, with the channels of 4
      cells and 44 filters. The first sides are floor((n - 1) / 2), all others round up. With `aux`,
      images must be at least 67x67 in training and when parameters are initialised, and the shape
      of one kernel depends on the size of the images.

    Raises:
      InputError: the images are smaller than that, or 4 does not divide the number of filters.
    """

    cells: int = 4
    filters: int = 44
    stem: int = 32
    skip_reduction: bool = False
    num_classes: int | None = 1000
    aux: bool = False
    dropout: float = 0.5
    drop_path: float = 0.0
    act: Callable[[Array], Array] = nn.relu
    remat: bool = False
    norm: Norm | None = partial(batch_norm, epsilon=1e-3)
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> dict[str, Array]:
        chex.assert_rank(images, 4)
        # The parameters exist in evaluation too, whether initialised with `train` or not.
        with_aux = self.aux and self.num_classes is not None
        with_aux = with_aux and (train or self.is_initializing())
        check_sides(images, 1, more_than=66 if with_aux else 18)
        if self.filters % 4:
            raise InputError(f"filters is {self.filters}: give a multiple of 4")
        dtypes, norm = dtypes_of(self), norm_of(self, train=train)

        def conv(x: Array, features: int, kernel_size: Any, *, name: str, **how: Any) -> Array:
            how = {"name": name, "norm_name": f"{name}_bn", "act": None, **how}
            return conv_norm_act(x, features, kernel_size, norm=norm, **how, **dtypes)

        def separable(x: Array, features: int, size: int, *, stride: int, name: str) -> Array:
            for number in (1, 2):
                x = Conv(
                    x.shape[-1],
                    (size, size),
                    strides=stride if number == 1 else 1,
                    padding=size // 2,
                    feature_group_count=x.shape[-1],
                    use_bias=False,
                    kernel_init=he_normal,
                    name=f"{name}_depthwise{number}",
                    **dtypes,
                )(self.act(x))
                x = conv(x, features, 1, name=f"{name}_pointwise{number}")
            return x

        def fitted(x: Array, like: Array, *, name: str) -> Array:
            """Returns state 1: the map before the last, with the size and channels of state 0."""
            features = like.shape[-1]
            if x.shape[1:3] != like.shape[1:3]:
                # The second path uses the pixels between those of the first.
                between = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
                halves = ("path1", x, features // 2), ("path2", between, features - features // 2)
                paths = [
                    conv(self.act(y), half, 1, stride=2, name=f"{name}_{path}")
                    for path, y, half in halves
                ]
                return jnp.concatenate(paths, axis=-1)
            return x if x.shape[-1] == features else conv(self.act(x), features, 1, name=name)

        def cell(
            seen: tuple[Array | None, Array],
            *,
            kind: Cell,
            filters: int,
            drop: float,
            name: str,
        ) -> Array:
            before, x = seen
            y = conv(self.act(x), filters, 1, name=f"{name}_1x1")
            # There is no map before the input of the first cell, so state 1 is that input itself.
            states = [y, x if before is None else fitted(before, y, name=f"{name}_previous")]

            def step(operation: Operation, state: int, *, name: str) -> Array:
                x, stride = states[state], 2 if kind is REDUCTION and state < 2 else 1
                if operation == IDENTITY:
                    return x
                if operation == AVERAGE:
                    x = avg_pool(x, 3, stride=stride, padding=1, count_include_pad=False)
                elif operation == MAXIMUM:
                    x = max_pool(x, 3, stride=stride, padding=1)
                else:
                    x = separable(x, filters, operation, stride=stride, name=name)
                return drop_path(x, drop, train=train)

            for block, (left, right) in enumerate(kind.blocks):
                prefix = f"{name}_block{block}"
                states.append(
                    step(*left, name=f"{prefix}_left") + step(*right, name=f"{prefix}_right")
                )
            return jnp.concatenate([states[state] for state in kind.joined], axis=-1)

        rows = [(REDUCTION, f"cell_stem_{i}", self.filters // 4 * 2**i) for i in range(2)]
        for size in range(3):
            filters = self.filters * 2**size
            if size > 0:
                rows.append((REDUCTION, f"reduction_cell_{size - 1}", filters))
            rows += [(NORMAL, f"cell_{size * self.cells + i}", filters) for i in range(self.cells)]

        before, x = None, conv(images, self.stem, 3, stride=2, padding=0, name="conv0")
        maps, level = {}, 1
        for place, (kind, name, filters) in enumerate(rows, start=1):
            if kind is REDUCTION:
                maps[f"c{level}"] = x
                level += 1
            how = {"kind": kind, "filters": filters, "name": name}
            how["drop"] = self.drop_path * place / len(rows)
            given = run_block(self, partial(cell, **how), (before, x))
            if not (self.skip_reduction and name.startswith("reduction")):
                before = x
            x = given
        maps[f"c{level}"] = x
        if with_aux:
            y = avg_pool(self.act(maps["c4"]), 5, stride=3)
            y = conv(y, AUX_CHANNELS, 1, act=self.act, name="aux_conv0")
            y = conv(y, AUX_HIDDEN, y.shape[1:3], padding=0, act=self.act, name="aux_conv1")
            logits = nn.Dense(self.num_classes, name="aux_fc", **dtypes)(y[:, 0, 0])
            if train:
                maps["aux"] = logits
        maps["pooled"] = global_avg_pool(self.act(x))
        if self.num_classes is not None:
            y = nn.Dropout(self.dropout, deterministic=not train)(maps["pooled"])
            maps["logits"] = nn.Dense(self.num_classes, name="fc", **dtypes)(y)
        return maps


NASNETS = {
    "nasnet_a_mobile": partial(NASNet, cells=4, filters=44, stem=32),
    "nasnet_a_large": partial(
        NASNet, cells=6, filters=168, stem=96, skip_reduction=True, drop_path=0.3
    ),
}
