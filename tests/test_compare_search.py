"""The comparison: one search for all methods, within its bound, on calibration images alone; what is known is not computed again; refusals."""

import dataclasses
import json

import numpy as np
import pytest
from rich.progress import Progress

from compare import accuracy, cases, store
from compare.method import METHODS, CompareError, Fitted, check, fit, front, ideal
from compiler import flow
from compiler.budget import Verified
from compiler.loss import Bound, Loss
from compiler.network import Conv, Network
from sdp.config import NAMED
from sim import data

CONFIG = NAMED["small"]
BOUND = 1.0


@pytest.fixture(scope="module")
def case():
    """The demonstration's network with few calibration images."""
    found = cases.load("digits")
    few = data.Data(found.calibration.images[:96], found.calibration.labels[:96])
    return dataclasses.replace(found, calibration=few)


@pytest.fixture(scope="module", params=METHODS)
def fitted(request, case):
    method = METHODS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "CONFIRMING", 256)
        return method, fit(method, case.network, case.calibration.images, case.calibration.labels, CONFIG, BOUND)


def test_points(fitted, case):
    """From exact 8 bit down, each cheaper and worse than the one before, the chosen one within the bound; costs are those of the networks."""
    method, found = fitted
    chosen, points = found.points[found.chosen], found.points
    assert chosen.loss + chosen.error <= BOUND and chosen.ideal <= points[0].ideal == 4.0
    assert [point.cost for point in points] == sorted((point.cost for point in points), reverse=True)
    for point in points:
        assert {layer.name: found.arithmetic.mode(layer) for layer in point.network.layers if layer.name in point.modes} == point.modes
        assert ideal(found.arithmetic, point.network, case.calibration.images[:64]) == pytest.approx(point.ideal)
        assert (point.as_built is not None) == (method.name == "sdp")
    assert set(points[0].modes.values()) == {found.arithmetic.exact}
    # The search found something, but for the method that has nothing to find.
    assert (chosen.ideal < 0.7 * 4) == method.searched


def test_accuracy_on_test_images(fitted, case):
    _, found = fitted
    chosen = found.points[found.chosen]
    right = accuracy.classes(found.arithmetic.logits(chosen.network, case.test.images)) == case.test.labels
    assert right.mean() >= 0.97


def test_effort_is_said(fitted):
    method, found = fitted
    assert found.effort["networks"] == max(1, len(found.effort["trials"]) + len(found.measured))
    assert found.effort["networks"] <= 40 and (found.effort["space"]["log10"] > 4) == method.searched


def test_front():
    def point(cycles, divergence):
        return Verified(cycles, Loss(divergence, 0.0, 0.0, 0.0), {}, None)

    points = [point(9, 0.1), point(8, 0.3), point(7, 0.2), point(5, 0.4), point(6, 0.5), point(4, 0.4)]
    assert [(p.cycles, p.loss.divergence) for p in front(points)] == [(9, 0.1), (7, 0.2), (4, 0.4)]
    assert Bound(points=1.0)


# Results that are kept


@pytest.fixture
def bar():
    with Progress(disable=True) as progress:
        yield progress


def test_nothing_is_computed_twice(case, tmp_path, bar, monkeypatch):
    def run(images, case=case):
        return accuracy.compare(case, METHODS["int8"], CONFIG, images, tmp_path, bar)

    first = run(20)
    assert first["images"] == 20 and json.loads((tmp_path / "int8.json").read_text()) == first
    looked = []
    real = accuracy.batches
    monkeypatch.setattr(accuracy, "fit", lambda *_: pytest.fail("fitted again"))
    monkeypatch.setattr(accuracy, "batches", lambda run, images, *rest, **more: looked.append(len(images)) or real(run, images, *rest, **more))
    assert run(20) == first and looked == [20], "the float network alone is looked at again"
    more = run(50)
    assert looked[1:] == [30, 50] and more["images"] == 50 and more["key"] == first["key"]
    alone = accuracy.classes(case_logits(case, tmp_path, 50))
    assert more["points"][0]["top1"] == pytest.approx(100 * (alone == case.test.labels[:50]).mean())
    assert run(20)["points"] == first["points"], "fewer images are a part of those that are known"


def case_logits(case, folder, count):
    stored = store.read(folder, METHODS["int8"], store.key(METHODS["int8"], CONFIG, case.digest, cases.bound(len(case.test))))
    return stored.fitted.arithmetic.logits(stored.fitted.points[0].network, case.test.images[:count])


def test_test_images_choose_nothing(case, tmp_path, bar):
    """Other labels: another accuracy, the same search, chosen point and cost."""
    wrong = dataclasses.replace(case, test=data.Data(case.test.images, (case.test.labels + 1) % 10))
    reports = [accuracy.compare(one, METHODS["int8"], CONFIG, 30, tmp_path / str(at), bar) for at, one in enumerate((case, wrong))]
    assert reports[0]["points"][0]["top1"] > 90 and reports[1]["points"][0]["top1"] == 0
    assert reports[0]["key"] == reports[1]["key"] and reports[0]["points"][0]["modes"] == reports[1]["points"][0]["modes"]


@pytest.mark.parametrize("change", ["torn", "other code", "other network", "other bound"])
def test_what_has_changed_is_computed_again(case, tmp_path, bar, monkeypatch, change):
    method, fits = METHODS["int8"], []
    real = accuracy.fit
    monkeypatch.setattr(accuracy, "fit", lambda *args: fits.append(1) or real(*args))
    accuracy.compare(case, method, CONFIG, 10, tmp_path, bar)
    if change == "torn":
        path = tmp_path / "int8.pickle"
        path.write_bytes(path.read_bytes()[:100])
    elif change == "other code":
        monkeypatch.setattr(store, "code", lambda files: "other")
    elif change == "other network":
        case = dataclasses.replace(case, digest="other")
    else:
        monkeypatch.setattr(cases, "bound", lambda images: 0.5)
    accuracy.compare(case, method, CONFIG, 10, tmp_path, bar)
    assert len(fits) == 2


def test_code_of_a_method():
    """Every file is there, and each method depends on its own."""
    keys = {method.name: store.code((*store.SOURCES, *method.sources)) for method in METHODS.values()}
    assert len(set(keys.values())) == len(METHODS) - 1 and keys["int8"] == keys["static"]


def test_bound_leaves_room_for_the_noise_of_the_test():
    assert cases.bound(5000) == pytest.approx(1 - 100 * np.sqrt(0.04 / 5000)) and cases.bound(100) == cases.LEAST


def test_cheapest():
    report = {"points": [{"ideal": 4.0, "top1": 91.0}, {"ideal": 1.0, "top1": 90.5}, {"ideal": 0.8, "top1": 90.0}, {"ideal": 0.9, "top1": 90.6}]}
    assert [accuracy.cheapest(report, top1) for top1 in (92.0, 90.7, 90.5, 0.0)] == [None, 4.0, 0.9, 0.8]


def test_networks_that_were_left(case, tmp_path, bar):
    with pytest.raises(CompareError, match="^there are no networks of 'int8' in .*: run 'python -m compare.accuracy' first$"):
        store.load(tmp_path, METHODS["int8"])
    accuracy.compare(case, METHODS["int8"], CONFIG, 10, tmp_path, bar)
    assert len(store.load(tmp_path, METHODS["int8"]).fitted.points) == 1


# Refusals


def conv(name, source, **more):
    return Conv(name=name, input=source, weight=np.ones((4, 4, 1, 1), dtype=np.float32), bias=np.zeros(4, dtype=np.float32), **more)


@pytest.mark.parametrize("nodes, images, text", [
    ((conv("a", "x"), conv("b", "a")), 16, "^network 'n': 2 layers sum over channels, a comparison takes 3 at least$"),
    ((conv("a", "x"), conv("b", "a"), conv("c", "b")), 15, "^network 'n': 15 calibration images are too few, it takes 16 at least$"),
    ((conv("a", "x"), conv("b", "a", weight_scale=np.ones(4)), conv("c", "b")), 16, "^network 'n': 'b' comes with integers or modes of its own; "),
])
def test_networks_that_cannot_be_compared(nodes, images, text):
    network = Network(name="n", input="x", input_shape=(2, 2, 4), nodes=nodes)
    with pytest.raises(CompareError, match=text):
        check(network, np.zeros((images, 2, 2, 4)))


def test_test_images_among_calibration_images(monkeypatch):
    monkeypatch.setattr(data, "overlap", lambda *_: 3)
    with pytest.raises(CompareError, match="^network 'digits': 3 test images are calibration images, too, but test images must choose nothing$"):
        cases.load("digits")


def test_unknown_network():
    with pytest.raises(CompareError, match="^there is no network 'lenet', only digits"):
        cases.load("lenet")


@pytest.mark.parametrize("argv, text", [
    (["--method", "eyeriss"], "compare: --method: there is no method 'eyeriss', only sdp, static, int8, drq, olaccel"),
    (["--only", "digits", "--method", "int8", "--images", "0"], "compare: --images must be at least 1, not 0"),
    (["--only", "lenet"], "compare: --only: no network's name contains 'lenet'; there are digits"),
    (["--config", "huge"], "compare: "),
])
def test_refusals_of_the_command(argv, text, capsys):
    assert accuracy.main(argv) == 1
    assert capsys.readouterr().err.startswith(text)


def test_command(tmp_path, capsys):
    assert accuracy.main(["--only", "digits", "--method", "int8", "--images", "20", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "digits: 20 test images" in out and "int8: *4.000:" in out and f"made {tmp_path / 'digits' / 'int8.json'}" in out
    report = json.loads((tmp_path / "digits" / "int8.json").read_text())
    assert report["chosen"] == 0 and report["points"][0]["ideal"] == 4.0 and "Static INT4" in report["assumptions"]
    assert isinstance(store.read(tmp_path / "digits", METHODS["int8"], report["key"]).fitted, Fitted)
