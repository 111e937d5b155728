"""All passes in their order: arrangement by divergence on held images, and points that are measured again before they are taken."""

import dataclasses

import numpy as np
import pytest

from compiler import budget, flow, onnx_import, schedule
from compiler.loss import Bound, Loss
from compiler.quantize import quantize
from examples.digits import data
from examples.digits.demo import MODEL
from sdp.config import NAMED

CONFIG = NAMED["tiny"]
BOUND = Bound(points=2.0)


@pytest.fixture(scope="module")
def network():
    return onnx_import.read(MODEL)


@pytest.fixture(scope="module")
def calibration():
    return data.load()["calibration"]


@pytest.fixture(scope="module")
def samples(network, calibration):
    return flow.Samples.of(network, calibration.images, calibration.labels)


def test_samples(network, calibration, samples):
    """A quarter is held, blends follow, and nothing that is fitted to comes back behind."""
    assert samples.fit == len(calibration.images) * 3 // 4 and len(samples.images) == len(calibration.images) + flow.BLENDS
    fitted = {image.tobytes() for image in samples.images[: samples.fit]}
    assert not any(image.tobytes() in fitted for image in samples.images[samples.fit :])
    other = flow.Samples.of(network, calibration.images, calibration.labels, seed=1)
    whole = len(calibration.images)
    np.testing.assert_array_equal(other.images[:whole], samples.images[:whole])
    assert not any((one == two).all() for one, two in zip(other.images[whole:], samples.images[whole:]))
    part = samples.part()
    np.testing.assert_array_equal(part.images[: part.fit], samples.images[: part.fit])
    assert part.fit == budget.IMAGES and len(part.images) == 3 * budget.IMAGES


def test_the_best_trial_is_taken(network, samples, monkeypatch):
    found = flow.arrange(network, samples, CONFIG, strengths=(0.0, 1.0), ranges=("peak", "masked"))
    assert [(trial.strength, trial.ranges) for trial in found.trials[:2]] == [(0.0, "masked"), (1.0, "masked")]
    best = min(found.trials, key=lambda trial: trial.divergence)
    assert found.ranges == best.ranges and found.trials[2].strength == min(found.trials[:2], key=lambda trial: trial.divergence).strength
    name = network.nodes[-1].name
    images = samples.images[:8]
    np.testing.assert_allclose(found.network.run(images)[name], network.run(images)[name], rtol=1e-3, atol=1e-3)


def test_a_point_that_was_only_lucky_is_not_taken(network, samples):
    """All points claim no loss; the fastest keeps one term of each group."""
    calibration = samples.calibrate(network, "masked")

    def point(terms: int) -> budget.Verified:
        made = quantize(calibration, CONFIG)
        made = dataclasses.replace(made, layers=tuple(dataclasses.replace(layer, budget=terms) for layer in made.layers))
        cycles = sum(schedule.cycles(CONFIG, layer) for layer in made.layers)
        return budget.Verified(cycles, Loss(0.0, 0.0, 0.0, 0.0), {}, made)

    points = [point(terms) for terms in (2 * CONFIG.group, CONFIG.group, 1)]
    found = flow.confirm(budget.Tradeoff(points, points[-1]), network, samples, CONFIG, BOUND)
    assert found is points[1]
    assert flow.confirm(budget.Tradeoff([points[0], points[2]], points[2]), network, samples, CONFIG, BOUND) is points[0]
    claimed = dataclasses.replace(points[1], loss=Loss(0.0, 0.0, 9.0, 0.0))
    assert flow.confirm(budget.Tradeoff([points[0], claimed], points[0]), network, samples, CONFIG, BOUND) is points[0]
