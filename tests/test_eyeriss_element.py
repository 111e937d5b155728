"""One element of Eyeriss: its rows are those of a convolution; the hardware's are its rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.eyeriss_element import LATENCY, cycles, rows, wrap
from golden.eyeriss_mapping import FILTER_WORDS, IFMAP_WORDS, PSUM_WORDS
from golden.mac_array import convolve
from hw.eyeriss_element import EyerissElement
from hw.verilog import export
from sim.cocotb_runner import run
from tests.units import SIMULATORS, Units


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_a_column_of_elements_convolves(seed, kernel_h, kernel_w, channels, stride):
    """Row stationary: an element per filter row, psums from one to the next; without a cut and without overflow that is the convolution."""
    rng = np.random.default_rng(seed)
    out_w = int(rng.integers(1, 5))
    image = rng.integers(-50, 50, (1, kernel_h, (out_w - 1) * stride + kernel_w, channels))
    weights = rng.integers(-8, 8, (kernel_h, kernel_w, channels, 5))
    psums = np.zeros((out_w, 5), dtype=np.int64)
    for row in range(kernel_h):
        psums = rows(image[0, row].ravel(), weights[row].reshape(-1, 5), psums, stride * channels, 0)
    assert (psums == convolve(image, weights, (1, stride), (0, 0), (1, out_w))[0, 0]).all()


@given(st.integers(0, 2**32 - 1), st.integers(0, 16))
def test_products_are_cut_and_sums_wrap(seed, fraction):
    rng = np.random.default_rng(seed)
    ifmaps, filters, psums = (rng.integers(-32768, 32768, shape) for shape in ((4,), (3, 2), (2, 2)))
    found = rows(ifmaps, filters, psums, 1, fraction)
    for x in range(2):
        for f in range(2):
            total = int(psums[x, f]) + sum(int(ifmaps[x + w]) * int(filters[w, f]) // 2**fraction for w in range(3))
            assert found[x, f] == (total + 32768) % 65536 - 32768
    assert wrap(np.array([32768, -32769, 5])).tolist() == [-32768, 32767, 5]


def test_time_is_a_cycle_per_product():
    assert cycles(3, 4, 1, 100) - cycles(3, 4, 1, 99) == 12
    assert cycles(3, 4, 3, 100) - cycles(3, 4, 3, 99) == 13
    assert cycles(1, 1, 1, 1) == LATENCY


def test_pads_are_those_of_the_chip():
    assert (FILTER_WORDS, IFMAP_WORDS, PSUM_WORDS) == (224, 12, 24)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_element(simulator):
    verilog = export(Units({"eyeriss_element": EyerissElement()}), "units", constant=())
    run(verilog, "units", "tests.cocotb_eyeriss_element", simulator=simulator,
        env={"UNIT": "eyeriss_element", "SIMULATION": simulator})


class Rejected(EyerissElement):
    """Never elaborated; the warning for that looks at the instance, and may come after the test has ended."""

    _MustUse__silence = True


@pytest.mark.parametrize("fraction", [-1, 17])
def test_cuts_that_no_product_has(fraction):
    with pytest.raises(ValueError, match=rf"^fraction must be 0 ... 16, not {fraction}$"):
        Rejected(fraction=fraction)
