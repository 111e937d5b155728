"""What the join makes of stored searches: rows that nobody searched, trained networks beside the others, all points of a curve with what they take."""

import json

import pytest

from compare import cases, olaccel, results, static, store
from compare.built import machine
from compare.method import METHODS, Fitted, Point, macs
from compiler import quantize
from compiler.arithmetic import convolutions
from golden import eyeriss_mapping


@pytest.fixture(scope="module")
def digits():
    case = cases.load("digits")
    return case, quantize.calibrate(case.network, case.calibration.images[:32])


def put(folder, method, arithmetic, networks, top1, **more):
    """A stored search with a point per network."""
    points = [Point(network, {}, 0.0, 0.0, 0.0, 1.0, 1.0) for network in networks]
    report = {"points": [{"ideal_on_test": 4.0 / (1 + at), "top1": value, "modes": {}} for at, value in enumerate(top1)], "top1_float": 90.0, "images": 450,
              "effort": {}, **more}
    store.write(folder, METHODS[method], store.Stored("", Fitted(arithmetic, points, 0, [], {})), report)


@pytest.fixture(scope="module")
def joined(digits, tmp_path_factory):
    case, calibration = digits
    build = tmp_path_factory.mktemp("build")
    folder, plain, outliers = build / "compare" / "digits", static.Static(machine("int8")), olaccel.Olaccel(machine("sdp"))
    exact = plain.network(calibration, {})
    names = convolutions(exact)
    put(folder, "int8", plain, [exact], [90.0], chosen=0)
    put(folder, "olaccel", outliers, [outliers.network(calibration, modes) for modes in ({}, outliers.nominal(calibration, names))], [90.0, 89.5], chosen=1)
    put(folder, "static", static.Static(machine("static")), [exact], [89.25], chosen=0)
    put(folder.with_name("digits" + cases.FINETUNED), "static", static.Static(machine("static")), [exact], [89.9], settings={})
    # A search whose networks are not measured yet.
    store.write(folder, METHODS["drq"], store.Stored("", Fitted(plain, [], 0, [], {})), {"key": "k"})
    return results.collect(build, {}, ["digits"], list(METHODS)), exact


def test_rows_that_nobody_searched(joined):
    found, exact = joined[0]["digits"], joined[1]
    assert list(found) == ["static", "int8", "int16", "olaccel", "eyeriss"]
    assert found["int16"]["points"][0]["ideal_on_test"] == 16 and found["int8"]["points"][0]["ideal_on_test"] == 4
    assert found["int16"]["macs"] == found["int8"]["macs"] == macs(exact) and "effort" not in found["int16"]
    assert 16 < found["int16"]["points"][0]["built"] < 17 and 4 < found["int8"]["points"][0]["built"] < 4.5
    arrays = [found[name]["points"][0]["energy"]["published"]["array"] for name in ("int8", "int16")]
    assert 3 < arrays[1] / arrays[0] < 0.947 / 0.298  # elements of 16 and of 8 bits; the channel unit is the same
    assert found["eyeriss"]["picked"] == {"chosen": 0, "hindsight": 0} and found["eyeriss"]["points"][0]["top1"] == 90.0


def test_all_points_have_what_they_take(joined):
    exact, nominal = joined[0]["digits"]["olaccel"]["points"]
    assert joined[0]["digits"]["olaccel"]["picked"] == {"chosen": 1, "hindsight": 1}
    assert nominal["built"] < exact["built"]
    energies = [point["energy"]["published"] for point in (exact, nominal)]
    assert all(energies[1][part] < energies[0][part] for part in ("array", "weights"))
    assert energies[0]["total"]["value"] < joined[0]["digits"]["int8"]["points"][0]["energy"]["published"]["total"]["value"]


def test_eyeriss_of_a_network(digits, joined):
    case, point = digits[0], joined[0]["digits"]["eyeriss"]["points"][0]
    made = results.eyeriss(case)
    assert made == {name: point[name] for name in made} and 0 < made["utilization"] < 1
    elements = eyeriss_mapping.ROWS * eyeriss_mapping.COLUMNS
    # These layers all sum over channels: a multiplication takes 16 nibble cycles over the share of elements that work, and DRAM comes on top.
    assert made["built"] == pytest.approx(made["cycles"] * elements * 16 / joined[0]["digits"]["int8"]["macs"])
    assert made["built"] > 16 / made["utilization"]


def test_trained_beside_untrained(joined):
    found = joined[0]["digits" + cases.FINETUNED]
    assert list(found) == ["static", "int8", "int16", "olaccel", "eyeriss"] and "untrained" not in found["static"]
    assert found["static"]["points"][0]["top1"] == 89.9 and joined[0]["digits"]["static"]["points"][0]["top1"] == 89.25
    assert all(found[name]["untrained"] and found[name]["picked"].keys() == {"hindsight"} for name in list(found)[1:])
    assert found["static"]["picked"] == {"hindsight": 0} and joined[0]["digits"]["int8"]["picked"].keys() == {"chosen", "hindsight"}


def test_the_join_is_plain_data(joined):
    assert json.loads(json.dumps(joined[0])) == joined[0]
