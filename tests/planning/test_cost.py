"""What is counted in programs of XLA, against counts by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxvision.engine import Parallel
from jaxvision.planning import cost_of, flops_of, parse_program

NHWC = ("NHWC", "HWIO", "NHWC")


def pairs(size, taps, outputs, *, low, stride=1, spread=1, dilation=1):
    """Pairs of an output and a tap that meet an input which is neither padding nor filler."""
    places = np.arange(outputs)[:, None] * stride + np.arange(taps) * dilation - low
    return int(((places >= 0) & (places < (size - 1) * spread + 1) & (places % spread == 0)).sum())


CONVOLUTIONS = {
    "plain": {},
    "padded": {"padding": ((1, 1), (2, 0))},
    "strided": {"padding": ((1, 1), (1, 1)), "window_strides": (2, 3)},
    "dilated": {"padding": ((2, 2), (2, 2)), "rhs_dilation": (2, 2)},
    "transposed": {"padding": ((2, 2), (1, 2)), "lhs_dilation": (2, 3)},
    "grouped": {"feature_group_count": 2},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_flops_of_a_convolution(name):
    options = {"window_strides": (1, 1), "padding": ((0, 0), (0, 0)), **CONVOLUTIONS[name]}
    groups = options.get("feature_group_count", 1)
    image, kernel = jnp.zeros((2, 9, 11, 4)), jnp.zeros((3, 3, 4 // groups, 6))
    convolve = functools.partial(lax.conv_general_dilated, dimension_numbers=NHWC, **options)
    result = jax.eval_shape(convolve, image, kernel)
    found = flops_of(parse_program(jax.jit(convolve).lower(image, kernel).as_text("hlo")))
    expected = 2 * result.shape[0] * result.shape[3] * kernel.shape[2]
    for axis in (0, 1):
        expected *= pairs(
            image.shape[1 + axis],
            3,
            result.shape[1 + axis],
            low=options["padding"][axis][0],
            stride=options["window_strides"][axis],
            spread=options.get("lhs_dilation", (1, 1))[axis],
            dilation=options.get("rhs_dilation", (1, 1))[axis],
        )
    assert found == {"float32": expected}


def test_the_gradients_of_a_convolution_cost_as_much_as_itself():
    image, kernel = jnp.zeros((2, 8, 8, 4)), jnp.zeros((3, 3, 4, 6))

    def total(image, kernel):
        options = {"dimension_numbers": NHWC}
        return lax.conv_general_dilated(image, kernel, (2, 2), ((1, 1), (1, 1)), **options).sum()

    def flops(function):
        lowered = jax.jit(function).lower(image, kernel)
        return flops_of(parse_program(lowered.as_text("hlo")))["float32"]

    once = flops(total)
    # The convolution itself is not needed for the gradients of its sum.
    assert flops(jax.grad(total, argnums=(0, 1))) == 2 * once


def test_flops_of_products_by_dtype():
    def run(a, b, c):
        def step(carry, _):
            return carry @ c, None

        carry, _ = lax.scan(step, c, length=5)
        return jnp.einsum("bij,bjk->bik", a, b), carry

    a, b = jnp.zeros((3, 4, 5), jnp.bfloat16), jnp.zeros((3, 5, 6), jnp.bfloat16)
    lowered = jax.jit(run).lower(a, b, jnp.zeros((7, 7)))
    found = flops_of(parse_program(lowered.as_text("hlo")))
    assert found == {"bfloat16": 2 * 3 * 4 * 5 * 6, "float32": 5 * 2 * 7**3}


def test_loops_of_known_length_count_each_round():
    def run(x):
        return lax.fori_loop(0, 6, lambda _, x: jnp.sort(x), x)

    def until(x):
        return lax.while_loop(lambda x: x[0] < 1, jnp.sort, x)

    x = jnp.zeros(1000)
    known, unknown = (cost_of(compiled(function, x)) for function in (run, until))
    assert (known.loops, unknown.loops) == (0, 1)
    assert known.traffic["others"] >= 6 * 2 * x.nbytes
    assert unknown.traffic["others"] < 6 * 2 * x.nbytes


def test_before_it_is_compiled_the_rounds_of_another_loop_than_a_scan_are_not_known():
    """It counts as one round."""
    x = jnp.zeros((5, 5))

    def until(x):
        return lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ x, x)

    found = flops_of(parse_program(jax.jit(until).lower(x).as_text("hlo")))
    assert found == {"float32": 2 * 5**3}


def compiled(function, *arguments):
    return parse_program(jax.jit(function).lower(*arguments).compile().as_text())


def test_bytes_of_a_fusion_are_those_of_its_operands_and_result():
    x, y = jnp.zeros((100, 30)), jnp.zeros((100, 30))
    found = cost_of(compiled(lambda x, y: jnp.tanh(x) * y + 1, x, y))
    assert found.traffic["fusions"] == found.nbytes == 3 * x.nbytes
    assert found.kernels == 1


def test_a_slice_counts_what_it_reads():
    x = jnp.zeros((1000, 10))
    found = cost_of(compiled(lambda x, i: lax.dynamic_slice_in_dim(x, i, 3) * 2, x, 5))
    assert found.nbytes < x.nbytes / 10


def test_collectives_by_kind():
    parallel = Parallel("shard_map", devices=jax.devices()[:2])

    def run(state, batch):
        total = lax.psum((state * batch.sum(), batch.max()), "batch")
        return total, lax.all_gather(batch, "batch", tiled=True)

    lowered = parallel.map(run).lower(jnp.zeros((10, 3)), jnp.zeros((8, 5)))
    found = {x.kind: x for x in cost_of(parse_program(lowered.compile().as_text())).collectives}
    assert set(found) == {"all-reduce", "all-gather"}
    assert found["all-reduce"].nbytes == 4 * (10 * 3 + 1)
    assert found["all-gather"].nbytes == 4 * 4 * 5


def test_dtypes_and_branches_and_callbacks():
    def run(a, b, flag):
        jax.debug.callback(lambda x: None, a[0, 0])
        return lax.cond(flag, jnp.sin, jnp.cos, a @ b)

    found = cost_of(compiled(run, jnp.zeros((4, 4)), jnp.zeros((4, 4)), True))
    assert found.dtypes["matrix products"] == {"float32": 1}
    assert found.dtypes["convolutions"] == {}
    assert found.host_calls == 1
    assert found.conditionals == 1


GPU = """
HloModule jit_f, is_scheduled=true, entry_computation_layout={(bf16[3,3,64,64]{3,2,1,0})->f32[]}

%fused_add (param_0.11: bf16[8,56,56,64], param_1.7: bf16[]) -> bf16[8,56,56,64] {
  %param_0.11 = bf16[8,56,56,64]{3,2,1,0} parameter(0)
  %param_1.7 = bf16[] parameter(1)
  ROOT %add.1 = bf16[8,56,56,64]{3,2,1,0} add(%param_0.11, %param_0.11), metadata={op_name="a(b)"}
}

%wrapped (param_0.12: bf16[3,3,64,64]) -> bf16[64,3,3,64] {
  %param_0.12 = bf16[3,3,64,64]{3,2,1,0} parameter(0)
  ROOT %transpose.3 = bf16[64,3,3,64]{3,2,1,0} transpose(%param_0.12), dimensions={3,0,1,2}
}

ENTRY %main.0_spmd (param.2: bf16[3,3,64,64], param.3: bf16[8,56,56,64]) -> bf16[8,56,56,64] {
  %constant.1 = bf16[] constant(1)
  %ar = bf16[] all-reduce-start(%constant.1), channel_id=1, to_apply=%region_0.0
  %param.2 = bf16[3,3,64,64]{3,2,1,0} parameter(0), sharding={replicated}
  %wt = bf16[64,3,3,64]{3,2,1,0} fusion(%param.2), kind=kInput, calls=%wrapped
  %param.3 = bf16[8,56,56,64]{3,2,1,0} parameter(1), sharding={devices=[8,1,1,1]<=[8]}
  %conv.1 = (bf16[8,56,56,64]{3,2,1,0}, u8[16]{0}) custom-call(%param.3, %wt), window={size=3x3 \
pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
  %done = bf16[] all-reduce-done(%ar)
  %y = bf16[8,56,56,64]{3,2,1,0} get-tuple-element(%conv.1), index=0
  ROOT %out = bf16[8,56,56,64]{3,2,1,0} fusion(%y, %done), kind=kLoop, calls=%fused_add
}
"""


def test_a_program_for_a_gpu():
    found = cost_of(parse_program(GPU))
    image, kernel = 2 * 8 * 56 * 56 * 64, 2 * 3 * 3 * 64 * 64
    assert found.traffic == {
        "convolutions": 2 * image + kernel + 16,
        "matrix products": 0,
        "fusions": 2 * image + 2,
        "copies": 2 * kernel,
        "collectives": 4,
        "others": 0,
    }
    assert found.dtypes["convolutions"] == {"bfloat16": 1}
    assert [tuple(x) for x in found.collectives] == [("all-reduce", 1, 2)]
    assert found.kernels == 4
    assert [(x.sides, x.nbytes) for x in found.transposed] == [((64, 3, 3, 64), kernel)]


TPU = """
HloModule jit_f, is_scheduled=true

%inner (p0: bf16[8,56], p1: bf16[56,64]) -> f32[8,64] {
  %p0 = bf16[8,56]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %p1 = bf16[56,64]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %c = f32[8,64]{1,0:T(8,128)} convolution(%p0, %p1), dim_labels=bf_io->bf
}

ENTRY %main (a: bf16[8,56], b: bf16[56,64]) -> f32[8,64] {
  %a = bf16[8,56]{1,0:T(8,128)(2,1)} parameter(0)
  %b = bf16[56,64]{1,0:T(8,128)(2,1)} parameter(1)
  %start = (bf16[8,56]{1,0:T(8,128)(2,1)S(1)}, bf16[8,56]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) \
copy-start(%a), cross_program_prefetch_index=0
  %ready = bf16[8,56]{1,0:T(8,128)(2,1)S(1)} copy-done(%start)
  ROOT %f = f32[8,64]{1,0:T(8,128)} fusion(%ready, %b), kind=kOutput, calls=%inner
}
"""


def test_a_program_for_a_tpu_whose_memory_on_the_chip_does_not_count():
    found = cost_of(parse_program(TPU))
    assert found.traffic["copies"] == 2 * 8 * 56
    assert found.traffic["convolutions"] == 2 * 56 * 64 + 4 * 8 * 64


def test_a_text_that_is_no_program():
    with pytest.raises(ValueError, match="no ENTRY"):
        parse_program("HloModule m")
