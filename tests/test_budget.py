"""The search: its bound, its trade-off, the losses that it rests on."""

from pathlib import Path

import numpy as np
import pytest

from compiler import budget, onnx_import, schedule, sensitivity
from compiler.calibration import calibrate
from compiler.loss import Bound, Loss, blends, log_softmax, loss
from examples.digits import data
from sdp.config import NAMED

CONFIG = NAMED["small"]
NETWORK = onnx_import.read(Path(__file__).parents[1] / "examples/digits/digits.onnx")


@pytest.fixture(scope="module")
def images():
    return data.load()["calibration"].images[:128]


@pytest.fixture(scope="module")
def calibration(images):
    hard, temperature = blends(NETWORK, images[96:], None, 96)
    return calibrate(NETWORK, np.concatenate([images, hard]), fit=96, temperature=temperature)


@pytest.fixture(scope="module")
def tradeoff(calibration):
    return budget.search(calibration, CONFIG, lambda layer: schedule.cycles(CONFIG, layer), Bound(divergence=0.03))


def test_loss_of_nothing_is_nothing():
    logits = np.random.default_rng(0).normal(size=(50, 10))
    found = loss(logits, logits + 3)
    assert found.divergence == pytest.approx(0, abs=1e-12) and (found.disagreement, found.points, found.error) == (0, 0, 0)


def test_points_are_the_accuracy_that_is_lost():
    """Labels drawn from the float network's probabilities."""
    rng = np.random.default_rng(1)
    wanted = 2 * rng.normal(size=(20_000, 5))
    seen = wanted + rng.normal(size=wanted.shape)
    labels = (np.cumsum(np.exp(log_softmax(wanted)), axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    lost = 100 * ((wanted.argmax(axis=1) == labels).mean() - (seen.argmax(axis=1) == labels).mean())
    found = loss(wanted, seen)
    assert found.points == pytest.approx(lost, abs=1.0) and found.error < 0.3 and found.points < 100 * found.disagreement


def test_harder_blends_are_less_sure(images):
    name, sure = NETWORK.nodes[-1].name, []
    for wanted in (0.7, 0.99):
        hard, temperature = blends(NETWORK, images, None, 256, wanted)
        assert hard.shape == (256, *images.shape[1:]) and 0.5 <= temperature <= 8
        sure.append(np.exp(log_softmax(NETWORK.run(hard)[name])).max(axis=1).mean())
    assert sure[0] < sure[1] < 1


def test_bound():
    found = Loss(divergence=0.02, disagreement=0.01, points=0.4, error=0.1)
    assert found.within(Bound(points=0.5)) and not found.within(Bound(points=0.45))
    assert found.excess(Bound(divergence=0.01, disagreement=0.02)) == pytest.approx(2)


def test_losses_between_measured_ones_rise_as_budgets_fall():
    found = sensitivity.interpolated({(2, True): 0.4, (4, True): 0.1, (6, True): 0.12, (4, False): -0.01}, range(1, 8), 1e-6)
    assert found[3, True] == pytest.approx(np.sqrt(0.4 * 0.12), rel=1e-6) and found[7, True] == pytest.approx(0.12)
    assert all(found[k, True] >= found[k + 1, True] for k in range(1, 7)) and found[5, False] == pytest.approx(1e-6)


def test_the_best_is_the_fastest_within_the_bound(tradeoff):
    within = [point for point in tradeoff.points if point.loss.within(Bound(divergence=0.03))]
    assert tradeoff.best.cycles == min(point.cycles for point in within)
    for point in tradeoff.points:
        assert point.cycles == sum(schedule.cycles(CONFIG, layer) for layer in point.network.layers)
        assert {layer.name: (layer.budget, layer.w4) for layer in point.network.layers if layer.name in point.modes} == point.modes
    assert [point.cycles for point in tradeoff.points] == sorted((point.cycles for point in tradeoff.points), reverse=True)


def test_the_search_saves_most_of_the_time(tradeoff, calibration):
    exact = sensitivity.Point(calibration, CONFIG, {}, correct=False, weights="nearest").network
    assert tradeoff.best.cycles < 0.4 * sum(schedule.cycles(CONFIG, layer) for layer in exact.layers)


def test_a_tight_bound_is_kept(calibration):
    bound = Bound(points=1e-9)
    found = budget.search(calibration, CONFIG, lambda layer: schedule.cycles(CONFIG, layer), bound, rounds=1).best
    assert found.loss.within(bound) and found.loss.points <= 0


def test_changes_of_one_layer_leave_the_point(calibration):
    modes = {name: (6, True) for name in sensitivity.convolutions(sensitivity.Point(calibration, CONFIG, {}, correct=False, weights="nearest").network)}
    point = sensitivity.Point(budget.part(calibration, 32), CONFIG, modes, correct=True, weights="fitted")
    before = point.loss
    name = next(iter(modes))
    assert point.changed(name, (1, True)).divergence > before.divergence
    assert point.changed(name, modes[name]).divergence == pytest.approx(before.divergence, rel=0.3)
    assert point.loss == before
