"""The whole tiny machine under both simulators; the tests themselves are in cocotb_accelerator.py."""

import pytest

from golden.machine import Machine
from hw.accelerator import Accelerator
from sdp.config import NAMED
from sdp.program import ProgramError
from sim.cocotb_runner import run
from tests.malformed import malformed

TESTS = ("streams", "log_wraps", "errors", "timeout", "reset_anywhere", "constants")


@pytest.mark.parametrize("testcase", TESTS)
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_accelerator(simulator, testcase):
    run(Accelerator(NAMED["tiny"]), "accelerator", "tests.cocotb_accelerator", simulator=simulator, testcase=testcase,
        env={"PROGRAMS": 1 if simulator == "icarus" else 4})


@pytest.mark.parametrize("name, error, stream", [pytest.param(*m, id=m[0]) for m in malformed(NAMED["tiny"])])
def test_golden_machine_names_the_same_error(name, error, stream):
    with pytest.raises(ProgramError) as caught:
        Machine(NAMED["tiny"]).run(stream)
    assert caught.value.code == error
