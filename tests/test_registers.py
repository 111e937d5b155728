"""The register map, and the register block against it."""

import re

import pytest

from sdp import registers as reg
from sdp.config import NAMED
from sdp.program import Error
from tests.units import everywhere, simulate


def test_addresses_are_distinct_and_below_the_log():
    addresses = [r.address for r in reg.REGISTERS]
    assert len(set(addresses)) == len(addresses) and max(addresses) < reg.LOG_BASE < 1 << reg.ADDRESS_BITS
    assert reg.LOG_BASE + 4 * 256 <= 1 << reg.ADDRESS_BITS  # the largest log
    assert {r.access for r in reg.REGISTERS} == {"r", "w", "rw"}


@pytest.mark.parametrize("config", NAMED.values(), ids=NAMED)
def test_constants_hold_every_size(config):
    values = reg.constants(config)
    assert all(0 <= v < 1 << 32 for v in values.values()) and set(values) <= set(reg.BY_NAME)
    g0, g1 = values["geometry0"], values["geometry1"]
    assert [g0 >> n & 255 for n in (0, 8, 16, 24)] == [config.group, config.lanes, config.rows, config.columns]
    assert [g1 >> n & 255 for n in (0, 8, 16, 24)] == [config.ports, config.outputs, config.scale_bits, config.log_layers - 1]
    assert [values[n] for n in ("activation_words", "weight_words", "scale_words", "reduction")] == [
        config.activation_words, config.weight_words, config.scale_words, config.reduction]
    assert values["id"].to_bytes(4, "big") == b"SDP1"


def test_c_header_has_every_register_bit_and_error():
    text = reg.c_header()
    defines = dict(re.findall(r"^#define (\w+) +(\w+)", text, re.MULTILINE))
    for r in reg.REGISTERS:
        assert int(defines[f"SDP_{r.name.upper()}"]) == r.address
    for e in Error:
        assert int(defines[f"SDP_ERROR_{e.name}"]) == e.value
    bits = [int(defines[f"SDP_CONTROL_{n}"]) for n in ("START", "RESET", "CLEAR", "INTERRUPT_VALUE", "INTERRUPT_WRITE")]
    assert bits == [1, 2, 4, 8, 16]
    assert [int(defines[f"SDP_STATUS_{n}"]) for n in ("RUNNING", "DONE", "ERROR", "INTERRUPT", "INTERRUPT_ENABLE")] == [1, 2, 4, 8, 16]
    assert int(defines["SDP_ID_VALUE"], 16) == reg.ID and int(defines["SDP_LOG_BASE"]) == 1024


@everywhere
def test_register_block(simulator, config):
    simulate("registers", simulator, config)
