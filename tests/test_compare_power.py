"""Power of DRQ's array: what is run for it, what is recorded of it on the RTL, and what its energy per image follows from."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare import built, drq, energy, hardware, masked, power, static
from compiler import quantize
from examples.digits import data
from examples.digits.demo import MODEL
from golden import drq_array
from golden.cycles import layer_cycles
from golden.machine import Machine
from hw.accelerator import Accelerator
from hw.verilog import export
from sdp import UserError
from sdp.config import Config
from sdp.program import End, Kind, Layer
from sim import flow
from sim.harness import Harness
from sim.random_layer import Case, build
from synth.energy import Bounded, Constants
from synth.gate_level import activity
from synth.power_jobs import Workload

FEW = Config(name="drq-few", array="drq", group=2, lanes=2, rows=4, columns=1, ports=1, outputs=1, reduction=256, activation_words=512, weight_words=128,
             scale_words=32, log_layers=8)
CASE = Case(seed=5, channels_in=6, channels_out=4, in_h=5, in_w=5, kernel_h=3, kernel_w=3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1, masked=1,
            region_h=1, region_w=1, threshold=100)
PORTS = {"clk": 1, "rst": 1, "captured": 1, "terms": 3, "masks": 4, "sums.signature__data_0": 2 * FEW.accumulator_bits, "sums.write__en": 1, "sums.write__en_0": 1}
LAYER = "block1_b"
MEASUREMENTS = [{"sensitive": share, "pj_per_cycle": 600 + 500 * share} for share in (0, 0.1, 0.35, 0.8)]


@pytest.fixture(scope="module")
def work():
    split = data.load()
    return Workload("digits", flow.read(MODEL), split["calibration"].images[:32], split["test"].images[:3])


@pytest.fixture(scope="module")
def jobs(work):
    return {job.key: job for job in power.sensitive(built.machine("drq"), work, [LAYER])}


def test_jobs_of_drq(work, jobs):
    """Shares as nearly as a threshold can; the layer alone has masks, and its input is the same in all."""
    assert tuple(jobs) == power.SHARES and jobs[100].masks is None and not jobs[0].masks.any()
    shares = [job.masks.mean() for job in jobs.values() if job.masks is not None]
    assert shares == sorted(set(shares)) and all(abs(share - key / 100) < 0.05 for share, key in zip(shares, power.SHARES, strict=False))
    for key, job in jobs.items():
        layers = [command for program in job.programs for command in program if isinstance(command, Layer)]
        assert [layer.tag for layer in layers if layer.masked] == [LAYER] * (key < 100)
        assert len([layer for layer in layers if layer.predict]) == (key < 100)


@given(st.integers(0, 2**32), st.sampled_from([(1, 1), (2, 4), (4, 2)]), st.floats(0, 0.99))
def test_threshold_is_the_nearest(seed, region, share):
    codes = np.random.default_rng(seed).integers(-40, 41, (1, 5, 6, 3))
    found = power.threshold(codes, region, share)
    assert found >= 1 and power.threshold(codes, region, 1) == 0
    distance = [abs(drq.mask(codes, value, region).mean() - share) for value in range(1, 100)]
    assert distance[found - 1] == min(distance)


@pytest.fixture(scope="module")
def harness():
    return Harness(FEW, export(Accelerator(FEW), "accelerator"), trace=4)


def program(**changed):
    """An odd number of tiles of a layer before, then one with masks, and which of its codes are sensitive."""
    case = dataclasses.replace(CASE, **changed)
    commands = build(FEW, [dataclasses.replace(CASE, seed=2, masked=0, channels_out=2, in_h=2, in_w=2), case])
    layer = next(command for command in commands if isinstance(command, Layer) and command.tag == str(case))
    machine = Machine(FEW)
    machine.run([*commands[: commands.index(layer)], End()])
    words = np.stack([machine.activations[0, layer.in_base + n * layer.in_plane :][: layer.in_h * layer.in_w] for n in range(layer.in_words)], axis=1)
    codes = words.reshape(1, layer.in_h, layer.in_w, -1)[..., : case.channels_in]
    return commands, layer, drq.mask(codes, case.threshold, (1 << case.region_h, 1 << case.region_w))


def recorded(harness, commands, layer, masks, cycles, ports=PORTS):
    return activity.record(FEW, harness, [commands], layer.tag, "core.convolution", ports, cycles, 7, masks)


@pytest.mark.parametrize("cycles, tiles", [(1, 1), (10**6, 13)])
def test_what_is_recorded(harness, cycles, tiles):
    """Whole tiles after the first; their share of sensitive codes is what the array worked on in these cycles but for pixels on their way."""
    commands, layer, masks = program()
    trace = recorded(harness, commands, layer, masks, cycles)
    ends = np.flatnonzero(trace.ports["captured"]) + 1
    assert trace.key == 7 and trace.warm == ends[0] and ends[-1] == trace.warm + trace.cycles and len(ends) == tiles + 1
    assert trace.ports["rst"].ravel().tolist() == [1] * activity.RESET + [0] * (trace.warm + trace.cycles - activity.RESET)
    assert all(len(bits) == ends[-1] and bits.shape[1] == PORTS[name] for name, bits in trace.ports.items())
    # 25 pixels in tiles of 4, 4 channels in blocks of 2, 9 taps of 6 channels; rows for 8.
    assert trace.macs == pytest.approx(tiles / 14 * 25 * 4 * 9 * 6)
    worked = (trace.ports["terms"][trace.warm :] << np.arange(PORTS["terms"])).sum() / (tiles * 18 * 4 * 4)
    assert trace.sensitive == pytest.approx((worked - 1) / 3, abs=0.005) and 0.1 < masks.mean() < 0.7
    # The layer before left the other bank: the netlist begins with the one that is written first after a reset.
    written = [np.flatnonzero(trace.ports[f"sums.{name}"])[0] for name in ("write__en", "write__en_0") if trace.ports[f"sums.{name}"].any()]
    assert written == sorted(written) and trace.ports["sums.signature__data_0"].any()


def test_all_sensitive(harness):
    """Without masks: what lies inside of the image, less what the first tile has of it."""
    commands, layer, _ = program(masked=0)
    inside = np.pad(np.ones((5, 5)), 1)
    taps = np.array([inside[y : y + 3, x : x + 3].sum() for y in range(5) for x in range(5)])
    share = (2 * taps.sum() - taps[:4].sum()) * 6 / (13 * 18 * 4 * 4)
    assert recorded(harness, commands, layer, None, 10**6).sensitive == pytest.approx(share)


def test_a_trace_is_what_was_saved(harness, tmp_path):
    trace = recorded(harness, *program(), 1)
    trace.save(tmp_path / "trace.npz")
    found = activity.Trace.load(tmp_path / "trace.npz")
    assert (found.layer, found.key, found.warm, found.macs, found.sensitive) == (trace.layer, 7, trace.warm, trace.macs, trace.sensitive)
    assert found.ports.keys() == PORTS.keys() and all(np.array_equal(found.ports[name], bits) for name, bits in trace.ports.items())


def test_wrong_masks_and_missing_signals(harness):
    commands, layer, masks = program()
    with pytest.raises(UserError, match=r"^layer \S.*: it has other masks than those that were expected$"):
        recorded(harness, commands, layer, ~masks, 1)
    with pytest.raises(UserError, match=r"^layer \S.*: the waveforms have no core\.convolution\.absent$"):
        recorded(harness, commands, layer, masks, 1, {**PORTS, "absent": 1})
    with pytest.raises(UserError, match=r"^layer one has 1 tile, two are needed: one fills the array, one is counted$"):
        activity._tiles("one", np.array([[0], [1], [0]]), 5)


@pytest.fixture(scope="module")
def network(work):
    """One that has masks, exact layers, idle channels and idle pixels; and a tensor whose readers want different thresholds."""
    calibration = quantize.calibrate(work.network, work.calibration)
    arithmetic = drq.Drq(built.machine("drq"))
    return arithmetic, arithmetic.network(calibration, {"block1_b": 40, "block2_a": 32, "block2_b": 64, "shortcut": 16})


@pytest.mark.parametrize("changed", [{}, {"rows": 12, "group": 4, "lanes": 3, "outputs": 4, "weight_words": 2000}])
def test_sensitive_share_is_that_of_the_cycles(work, network, changed):
    """``terms = codes * (1 + 3 * share)`` in every convolution, exactly."""
    arithmetic, plain = network
    config = Config(**{**built.machine("drq").parameters(), **changed})
    made = built.build(arithmetic, plain, config, work.images)
    products, unified = energy.products(arithmetic, plain, work.images), masked.unified(plain)
    assert {layer.name: layer.threshold for layer in unified.layers if hasattr(layer, "threshold")} != {
        layer.name: layer.threshold for layer in plain.layers if hasattr(layer, "threshold")}
    masks, seen = drq.masks(unified, arithmetic.run(unified, work.images)), []
    exact = {layer.name for layer in unified.layers if not getattr(layer, "threshold", 0)}
    for layer in made.layers:
        if layer.kind is Kind.CONV:
            cycles = drq_array.layer_cycles(config, layer, None if layer.tag in exact else masks[layer.tag])
            tiles = -(-layer.out_h * layer.out_w // config.rows) * -(-layer.out_channels // config.block(False))
            codes = tiles * config.rows * layer.kernel_h * layer.kernel_w * layer.in_words * config.word
            share = energy.sensitive(config, layer, products[layer.tag])
            assert codes * (1 + 3 * share) == pytest.approx(float(cycles.terms.mean()), rel=1e-12)
            seen.append(share)
    assert len({round(share, 6) for share in seen}) >= 5 and max(seen) > 0.3


def test_line_through_measurements():
    line = energy.Line.through(MEASUREMENTS)
    assert (line.none, line.whole, line.error) == pytest.approx((600, 1100, 0), abs=1e-9) and line.at(0.5) == pytest.approx(850)
    bent = energy.Line.through([{"sensitive": x, "pj_per_cycle": y} for x, y in ((0, 90), (0.5, 130), (1, 110))])
    assert (bent.none, bent.whole) == pytest.approx((100, 120)) and bent.error == pytest.approx(20 / 130)


def test_energy_of_drq_on_the_library_basis(work, network):
    """Energy per cycle at each layer's share, times its exact cycles; its memories are added once, measured or not."""
    arithmetic, plain = network
    config = built.machine("drq")
    made, products = built.build(arithmetic, plain, config, work.images), energy.products(arithmetic, plain, work.images)
    before, found = (energy.inference(made, products, report) for report in (None, {"measurements": MEASUREMENTS, "pj_per_cycle": {}}))
    assert found["published"] == before["published"]
    entry, constants = found["library"], Constants("library")
    array = sum((600 + 500 * energy.sensitive(config, layer, products[layer.tag])) * cycles if layer.kind is Kind.CONV else constants.array(config, layer).value
                for layer, cycles in zip(made.layers, made.cycles, strict=True))
    assert entry["array"] * 1e6 == pytest.approx(array)
    assert entry["array_source"] == "measured on our netlist, linear in the share of sensitive codes, no measurement further away than 0%"
    assert before["library"]["array_source"] == "published 4-bit element per nibble multiplier, scaled"
    for part in ("activations", "weights", "scales", "dram"):
        assert entry[part] == before["library"][part]
    own = energy.drq_memories(made, constants).value / 1e6
    assert own > 0 and entry["total"]["value"] == pytest.approx(sum(entry[part] for part in ("array", "activations", "weights", "scales", "dram")))
    layer, measured = made.layers[1], energy.ArrayConstants("library", made, products, {"measurements": MEASUREMENTS})
    assert layer.kind is Kind.CONV and vars(measured.array(config, layer)) == pytest.approx(vars(Bounded(1.0, *(
        constants.table["measured"][name] for name in ("low", "high"))) * (measured.line.at(energy.sensitive(config, layer, products[layer.tag])) * made.cycles[1])))


def test_energy_of_the_others_follows_their_budget(work):
    config = built.machine("int8")
    network = quantize.quantize(quantize.calibrate(work.network, work.calibration), config)
    made = built.build(static.Static(config), network, config, work.images)
    report = {"pj_per_cycle": {str(config.group): {"processing elements": 90.0, "array wiring": 10.0}}, "measurements": MEASUREMENTS}
    constants = energy.ArrayConstants("library", made, {}, report)
    layer = next(layer for layer in made.layers if layer.kind is Kind.CONV)
    assert constants.array(config, layer).value == 100 * layer_cycles(config, layer).total
    assert constants.array_source == f"measured on our netlist at budgets of {config.group}"


def test_what_is_missing(tmp_path):
    (tmp_path / "drq-small").mkdir()
    area = {"unit": "um2", "nibble_multipliers": 256, "array": 1.0, "total": 2.0, "memory_bits": 3, "dense_int4_per_multiplier": 4.0}
    (tmp_path / "drq-small" / "area.json").write_text(json.dumps(area))
    assert hardware.machines(tmp_path, {"drq": "drq-small"})[1] == ["python -m compare.power --method drq --liberty FILE.lib"]
    (tmp_path / "drq-small" / "power.json").write_text(json.dumps({"measurements": MEASUREMENTS}))
    found, missing = hardware.machines(tmp_path, {"drq": "drq-small"})
    assert missing == [] and found["drq"].power == {"measurements": MEASUREMENTS} and "drq" in power.METHODS
