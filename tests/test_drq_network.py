"""Networks with DRQ's masks: golden machine against the rule, layer by layer, and the hardware against the golden machine."""

import dataclasses

import numpy as np
import pytest

from compiler import drq_masks, schedule
from compiler.network import NetworkError
from compiler.quantized import finish
from golden import drq_array, sensitivity_predictor
from golden.machine import Machine
from sdp.config import BASELINES, NAMED
from sdp.encoding import encode
from sim.compare import differences
from sim.harness import Harness
from tests.test_arrays import network

SMALL = BASELINES["drq-small"]
REGION = (1, 2)
THRESHOLDS = {"l0": 30, "l1": 60, "l2": 256}


def made(config=SMALL, seed=3):
    """Four convolutions; the second has more channels than its weights leave room for at once."""
    rng = np.random.default_rng(seed)
    plain = network(config, rng, [(False, config.group)] * 4, channels=(5, 40, 37, 20, 9), size=9)
    return dataclasses.replace(plain, layers=tuple(dataclasses.replace(layer, weights=np.minimum(layer.weights, 119)) for layer in plain.layers)), rng


def expected(network, codes, exact):
    """Codes of all layers, and DRQ's cycles of those that read masks, by the rule."""
    tensors, masks = {network.input: codes}, {}
    for layer in network.layers:
        image = tensors[layer.input]
        mask = masks.get(layer.input) if layer.name not in exact else None
        acc = drq_array.accumulate(image, np.ones(image.shape, dtype=bool) if mask is None else mask, layer.weights, layer.stride, layer.pad, layer.out_shape[:2])
        tensors[layer.name] = finish(layer, acc, tensors)
        if layer.name in THRESHOLDS:
            regions = sensitivity_predictor.predict(tensors[layer.name], THRESHOLDS[layer.name], *REGION)
            masks[layer.name] = sensitivity_predictor.spread(regions, *REGION, *layer.out_shape[:2])
    return tensors, masks


@pytest.mark.parametrize("exact", [(), ("l2",)])
@pytest.mark.parametrize("weight_words", [640, 80])
def test_masks_are_predicted_and_read(exact, weight_words):
    config = dataclasses.replace(SMALL, weight_words=weight_words)
    plain, rng = made(config)
    compiled = drq_masks.add(schedule.compile(plain, config), THRESHOLDS, REGION, exact)
    codes = rng.integers(-127, 128, (3, *plain.input_shape)).astype(np.int16)
    codes[1] //= 8
    found = compiled.run_golden(Machine(config, 3), codes, trace=True)
    tensors, masks = expected(plain, codes, exact)
    for name, value in found.codes.items():
        np.testing.assert_array_equal(value, tensors[name], err_msg=name)
    assert 0 < masks["l0"].mean() < 1 and len({int(c) for c in found.results[0].cycles}) > 1


def test_hardware_runs_them():
    plain, rng = made()
    compiled = drq_masks.add(schedule.compile(plain, SMALL), THRESHOLDS, REGION)
    codes = rng.integers(-127, 128, plain.input_shape).astype(np.int16)
    programs = [compiled.setup(), compiled.frame(codes, trace=True), compiled.frame(codes // 8)]
    machine = Machine(SMALL)
    golden = [machine.run(program) for program in programs]
    for got, wanted in zip(Harness(SMALL).run([encode(SMALL, program) for program in programs]), golden):
        assert differences(SMALL, got, wanted) == []


def test_masks_that_do_not_fit():
    config = dataclasses.replace(SMALL, activation_words=1024)
    plain, _ = made(config)
    with pytest.raises(NetworkError, match=r"^masks of 'l0' need 243 words beside 0 that are in use; the mask memory of 'drq-small' has 256$|"
                                           r"^masks of 'l1' need 243 words beside 243 that are in use; the mask memory of 'drq-small' has 256$"):
        drq_masks.add(schedule.compile(plain, config), THRESHOLDS, (0, 0))


def test_other_arrays_have_no_masks():
    config = NAMED["small"]
    plain, _ = made(config)
    with pytest.raises(NetworkError, match="^masks are for drq arrays, 'small' has 'sdp'$"):
        drq_masks.add(schedule.compile(plain, config), THRESHOLDS, REGION)
