"""DRQ's array: sums against loops, and the hardware against golden sums and cycles; for the latter see ``test_drq_cycles``."""

import json
from dataclasses import replace

import numpy as np
import pytest
from amaranth.lib import data
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.drq_array import QUEUE, accumulate, split_weights
from golden.mac_array import convolve
from golden.weights import pack_slots, slots_of, split_w8
from hw.drq_array import DrqUnit
from hw.drq_row import DrqMultiplier, Weight
from hw.drq_sums import DrqSums
from sdp.config import Config
from sim.cocotb_runner import run
from tests import reference
from tests.test_mac_array import geometries
from tests.units import Units, simulate


def sizes(name, **kwargs):
    return Config(name=name, array="drq", ports=1, **{"activation_words": 64, "scale_words": 16, **kwargs})


# A step shorter than the way through the array, so that weights are waited for; all at their least; a step as long as the way through.
SHORT = sizes("drq-short", group=4, lanes=3, rows=7, columns=5, outputs=1, reduction=60, weight_words=160)
LEAST = sizes("drq-least", group=2, lanes=2, rows=QUEUE, columns=2, outputs=2, reduction=16, weight_words=9)
LONG = sizes("drq-long", group=4, lanes=2, rows=9, columns=4, outputs=4, reduction=24, weight_words=5)
# 256 elements: what is compared with the others.
SMALL = sizes("drq-256", group=8, lanes=2, rows=32, columns=8, outputs=8, reduction=64, weight_words=16)
SIZES = (SHORT, LEAST, LONG, SMALL)


def by_name(config):
    return config.name


@given(geometries(largest=5), st.integers(0, 2**32), st.booleans(), st.sampled_from((0.0, 0.1, 0.5, 1.0)))
@settings(max_examples=60)
def test_sums_equal_loops(geometry, seed, signed, share):
    (n, h, w, c, channels), kernel, stride, pad, out = geometry
    rng = np.random.default_rng(seed)
    image = rng.integers(-128 if signed else 0, 128 if signed else 256, (n, h, w, c)).astype(np.int16)
    masks, high, low = rng.random(image.shape) < share, *rng.integers(-8, 8, (2, *kernel, c, channels))
    weights = 16 * high + low
    nibbles = np.array([int(x / 16) for x in image.ravel()]).reshape(image.shape)  # towards zero
    expected = (reference.convolution(np.where(masks, image, 0), weights, stride, pad, out)
                + 256 * reference.convolution(np.where(masks, 0, nibbles), high, stride, pad, out))
    actual = accumulate(image, masks, weights, stride, pad, out)
    assert actual.dtype == np.int64 and (actual == expected).all()
    if share == 1:
        assert (actual == convolve(image, weights, stride, pad, out)).all()


def test_every_weight_is_two_digits():
    weights = np.arange(-136, 120)
    high, low = split_weights(weights)
    assert (16 * high + low == weights).all()
    assert min(high.min(), low.min()) == -8 and max(high.max(), low.max()) == 7
    assert all((digit[8:] == other).all() for digit, other in zip((high, low), split_w8(weights[8:])))


@pytest.mark.parametrize("weight, message", [
    (120, r"^weights reach from 0 to 120, DRQ's two digits allow -136 ... 119$"),
    (-137, r"^weights reach from -137 to 0, DRQ's two digits allow -136 ... 119$"),
])
def test_weights_out_of_range(weight, message):
    with pytest.raises(ValueError, match=message):
        split_weights(np.array([0, weight]))


@pytest.mark.parametrize("config", SIZES, ids=by_name)
def test_weights_lie_where_the_array_looks_for_them(config):
    weights = np.random.default_rng(5).integers(-128, 120, (3, 2 * config.columns, config.word))
    high, low = split_w8(weights)

    def nibble(digit):
        return {"magnitude": abs(int(digit)) & 7, "negative": int(digit < 0)}

    layout = data.ArrayLayout(data.ArrayLayout(data.ArrayLayout(Weight, 2), config.word), config.columns)
    for word, packed in enumerate(pack_slots(config, slots_of(config, weights, False))):
        slots = [[[{"high": nibble(high[word, c + side, s]), "low": nibble(low[word, c + side, s])} for side in (0, config.columns)]
                  for s in range(config.word)] for c in range(config.columns)]
        assert len(packed) == config.weight_beats * config.word
        assert int.from_bytes(packed.tobytes(), "little") == layout.const(slots).as_bits()


@pytest.mark.parametrize("config", SIZES[:3], ids=by_name)
def test_drq_array(config):
    simulate("drq_array", "icarus", config, make=DrqUnit, sizes=json.dumps(config.parameters()))


def test_drq_array_of_full_size():
    """Alone under Verilator, which builds one of its units only, of one size."""
    env = {"UNIT": "drq_array", "CONFIG": SMALL.name, "SIMULATION": "verilator", "SIZES": json.dumps(SMALL.parameters())}
    run(Units({"drq_array": DrqUnit(SMALL)}), "units", "tests.cocotb_drq_array", simulator="verilator", env=env)


def test_multiplier():
    simulate("drq_multiplier", "icarus", make=lambda config: DrqMultiplier())


class RejectedUnit(DrqUnit):
    """Never elaborated; the warning for that looks at the instance."""

    _MustUse__silence = True


class RejectedSums(DrqSums):
    _MustUse__silence = True


def test_sizes_that_the_array_cannot_have():
    with pytest.raises(ValueError, match=r"^ports must be 1, not 2: the array takes one word per cycle$"):
        RejectedUnit(replace(SMALL, ports=2))
    with pytest.raises(ValueError, match=r"^rows must be at least 4, not 3: weights are read one step ahead$"):
        RejectedUnit(replace(SMALL, rows=3))
    with pytest.raises(ValueError, match=r"^rows must be at least 2, not 1: a pixel's sum is not read in the cycle in which it is written$"):
        RejectedSums(replace(SMALL, rows=1))
