"""What the arrays see of codes, and what each of them refuses: alike in the compiler, the golden machine and the hardware."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler import schedule
from compiler.network import NetworkError
from compiler.quantized import QuantizedLayer, QuantizedNetwork, finish, sums
from golden.arrays import SEEN, in_order, operands
from golden.machine import Machine
from hw.arrays import UNITS
from sdp.arrays import ARRAYS
from sdp.config import BASELINES, CONFIGS, NAMED, VARIANTS
from sdp.encoding import encode
from sdp.program import Error, Kind, Layer, ProgramError
from sim.harness import Harness
from sim.random_layer import Case, build

SMALL = {c.array: c for c in (NAMED["small"], *VARIANTS.values(), *BASELINES.values())}


def test_registries_have_every_array():
    assert set(ARRAYS) == set(SMALL) == set(UNITS) == {*SEEN, "drq"}


@given(st.sampled_from([(c, k) for c in SMALL.values() if c.array in SEEN for k in c.array_kind.budgets(c.group)]), st.integers(0, 2**32), st.booleans())
def test_operands_are_what_lanes_take_one_after_the_other(config_and_budget, seed, signed):
    (config, budget), rng = config_and_budget, np.random.default_rng(seed)
    shape = (2, 3, 2, 2 * config.word)
    image = rng.integers(-128, 128, shape).astype(np.int16) if signed else rng.integers(0, 256, shape, dtype=np.uint8)
    image[rng.random(shape) < 0.4] //= 16
    codes, terms = operands(config, image, budget)
    assert codes.shape == shape and terms.shape == shape[:3]
    for at in np.ndindex(*shape[:3]):
        seen, count = [], 0
        for group in image[at].reshape(-1, config.group).tolist():
            taken = in_order(config, group, budget)
            assert len(taken) == budget
            kept = [0] * config.group
            for value, high, index in taken:
                kept[index] += value * 16**high
            seen, count = seen + kept, count + sum(value != 0 for value, _, _ in taken)
        assert codes[at].tolist() == seen and terms[at] == count


@pytest.mark.parametrize("array, budget, seen", [
    ("int4", 8, [0, 1, 15, 0, 1, 15, -1, -15, 0, -1, -15, 0]), ("int4", 16, None), ("int8", 8, None), ("int16", 8, None)])
def test_codes_that_dense_arrays_see(array, budget, seen):
    """With ``budget == group`` an array of 4 bits has no other nibble than the low one of the magnitude."""
    codes = [0, 1, 15, 16, 17, 255, -1, -15, -16, -17, -127, -128]
    image = np.zeros((1, 1, 1, 16), dtype=np.int16)
    image[..., :12] = codes
    assert operands(SMALL[array], image, budget)[0].ravel()[:12].tolist() == (seen or codes)


REFUSED = [("int4", False, 7, "budget = 7"), ("int4", True, 15, "budget = 15"), ("int8", False, 16, "budget = 16"), ("int8", True, 8, "w4 = 1"),
           ("int16", False, 1, "budget = 1"), ("int16", True, 8, "w4 = 1")]
SENTENCE = {"budget": r"budget = \d+, but the \w+ array of '[\w-]+' with group = 8 has group( \(codes of 4 bits\) and 2 \* group \(of 8\))?$",
            "w4": r"w4 = 1, but the \w+ array of '[\w-]+' has 8-bit weights only$"}


def changed(config, **fields):
    """A program with a layer that is right but for some fields."""
    case = Case(seed=1, channels_in=5, channels_out=4, in_h=3, in_w=4, budget=config.group)
    return encode(config, [dataclasses.replace(c, **fields) if isinstance(c, Layer) else c for c in build(config, [case])])


@pytest.mark.parametrize("array, w4, budget, what", REFUSED)
def test_golden_machine_refuses_what_the_array_does_not_have(array, w4, budget, what):
    with pytest.raises(ProgramError, match=rf"^BUDGET: layer 'beat \d+': {SENTENCE[what.split()[0]]}") as caught:
        Machine(SMALL[array]).run(changed(SMALL[array], w4=w4, budget=budget))
    assert what in str(caught.value)


@pytest.mark.parametrize("array", ["int4", "int8", "int16", "sdp-plain"])
def test_hardware_refuses_what_golden_refuses(array):
    """All budgets in both modes, of convolutions; a layer of another kind may say what it likes."""
    config = SMALL[array]
    streams, expected = [], []
    for kind, w4, budget in itertools.product((Kind.CONV, Kind.MAX), (False, True), range(2 * config.group + 2)):
        streams.append(changed(config, kind=kind, w4=w4, budget=budget))
        try:
            Machine(config).run(streams[-1])
            expected.append(Error.NONE)
        except ProgramError as error:
            expected.append(error.code)
    assert [result.error for result in Harness(config).run(streams)] == expected
    assert set(expected) == {Error.NONE, Error.BUDGET}
    assert expected.count(Error.NONE) == 2 * 2 * config.group + len(config.array_kind.budgets(config.group)) * len(config.array_kind.modes)


def network(config, rng, modes, channels=(5, 40, 7), size=6):
    """Convolutions with (w4, budget) of ``modes``, the second one with a stride and a residual of the first; signed and unsigned codes."""
    layers, shape, source, signed = [], (size, size, channels[0]), "x", True
    for n, ((w4, budget), outputs) in enumerate(zip(modes, channels[1:])):
        values = (-8, 8) if w4 else (-128, 128)
        weights = rng.integers(*values, (3, 3, shape[2], outputs)).astype(np.int16)
        out = (size, size, outputs)
        layers.append(QuantizedLayer(
            name=f"l{n}", kind=Kind.CONV, input=source, in_shape=shape, out_shape=out, kernel=(3, 3), pad=(1, 1), weights=weights, w4=w4, budget=budget,
            bias=rng.integers(-500, 500, outputs), multiplier=rng.integers(1, 400, outputs), shift=16, in_signed=signed, clamp=(0, 255) if n % 2 else (-127, 127),
            in_scale=1.0, out_scale=1.0))
        shape, source, signed = out, f"l{n}", not n % 2
    return QuantizedNetwork(name="n", input="x", input_shape=(size, size, channels[0]), input_scale=1.0, input_signed=True, packing=None, layers=tuple(layers))


@pytest.mark.parametrize("array", ["int4", "int8", "int16"])
def test_compiled_networks_compute_the_convolutions_of_what_the_array_sees(array):
    config, rng = SMALL[array], np.random.default_rng(5)
    modes = list(itertools.product(config.array_kind.modes, config.array_kind.budgets(config.group)))
    for first, second in itertools.product(modes, modes):
        made = network(config, rng, (first, second))
        compiled = schedule.compile(made, config)
        codes = rng.integers(-127, 128, (2, *made.input_shape)).astype(np.int16)
        found = compiled.run_golden(Machine(config, 2), codes, trace=True).codes
        tensors = {"x": codes}
        for layer in made.layers:
            padded = np.pad(tensors[layer.input], ((0, 0),) * 3 + ((0, -layer.in_shape[2] % config.word),))
            seen = operands(config, padded, layer.budget)[0][..., : layer.in_shape[2]]
            tensors[layer.name] = finish(layer, sums(layer, seen), tensors)
            np.testing.assert_array_equal(found[layer.name], tensors[layer.name])


@pytest.mark.parametrize("array, w4, budget, what", REFUSED)
def test_compiler_refuses_what_the_array_does_not_have(array, w4, budget, what):
    made = network(SMALL[array], np.random.default_rng(0), ((w4, budget),))
    with pytest.raises(NetworkError, match=rf"^layer 'l0': {SENTENCE[what.split()[0]]}") as caught:
        schedule.compile(made, SMALL[array])
    assert what in str(caught.value)


@pytest.mark.parametrize("name, w4, weight, reach", [("small", True, 27, "-15 to 15"), ("small-plain", True, 8, "-8 to 7"), ("small-plain", False, 120, "-128 to 119"),
                                                     ("int4-small", True, -9, "-8 to 7"), ("int8-small", False, 130, "-128 to 127"),
                                                     ("drq-small", False, 120, "-128 to 119")])
def test_compiler_refuses_weights_that_the_array_does_not_have(name, w4, weight, reach):
    config = CONFIGS[name]
    made = network(config, np.random.default_rng(0), ((w4, config.group),))
    layer = dataclasses.replace(made.layers[0], weights=np.full_like(made.layers[0].weights, weight))
    with pytest.raises(NetworkError, match=rf"^layer 'l0': {'w4' if w4 else 'w8'} weights of the {config.array} array reach from {reach}, {weight} is none of them$"):
        schedule.compile(made.replace(layer), config)
