"""Networks of rivals on the machines that were built: codes of the integer model, cycles of the golden machine and of the RTL, what moves and what it costs."""

import dataclasses

import numpy as np
import pytest

from compare import built, drq, energy, masked, static
from compare.sdp import Sdp
from compiler import quantize
from compiler.network import NetworkError
from examples.digits import data
from examples.digits.demo import MODEL
from golden.machine import Machine
from golden.traffic import Traffic, program_traffic
from hw import verilog
from sdp.config import CONFIGS
from sdp.encoding import encode
from sdp.program import Layer, MaskedLayer, Opcode
from sim import flow
from sim.compare import differences
from sim.harness import Harness
from synth.energy import Constants
from synth.energy import moved as moved_energy

THRESHOLDS = {"block1_a": 24, "block1_b": 40, "block2_a": 32, "block2_b": 64, "shortcut": 16}
IMAGES = 3


@pytest.fixture(scope="module")
def digits():
    split = data.load()
    return quantize.calibrate(flow.read(MODEL), split["calibration"].images[:32]), split["test"].images[:IMAGES]


@pytest.fixture(scope="module")
def masked_network(digits):
    arithmetic = drq.Drq(built.machine("drq"), (2, 4))
    return arithmetic, masked.unified(arithmetic.network(digits[0], THRESHOLDS))


def programs_of(network, config, codes):
    compiled = built.compiled_for(network, config)
    return compiled, compiled.frame(codes)


def test_drq_on_the_golden_machine(digits, masked_network):
    """Masks are predicted, kept and read where the integer model has them, and cycles are those of the closed recursion."""
    arithmetic, network = masked_network
    config, images = built.machine("drq"), digits[1]
    compiled, program = programs_of(network, config, network.encode(images))
    machine = Machine(config, images=IMAGES)
    machine.run(compiled.setup())
    result = machine.run(program)
    last = network.layers[-1].name
    assert np.array_equal(compiled.unpack(result.outputs)[last], arithmetic.run(network, images)[last])
    made = built.build(arithmetic, network, config, images)
    assert made.names == [count.layer.tag for count in result.layers]
    assert np.array_equal(made.cycles, [np.mean(count.cycles) for count in result.layers])
    sensitive = {name: mask.mean() for name, mask in drq.masks(network, arithmetic.run(network, images)).items()}
    assert any(0.05 < sensitive[name] < 0.95 for name in THRESHOLDS) and sensitive["stem"] == 1


def test_drq_on_the_rtl(digits, masked_network, tmp_path):
    _, network = masked_network
    config = built.machine("drq")
    compiled, program = programs_of(network, config, network.encode(digits[1][0]))
    path, _ = verilog.emit(config, tmp_path)
    ran, golden = Harness(config, path).run([encode(config, compiled.setup()), encode(config, program)]), Machine(config)
    assert [differences(config, seen, golden.run(commands)) for seen, commands in zip(ran, (compiled.setup(), program), strict=True)] == [[], []]


def test_readers_of_a_tensor_share_a_threshold(digits):
    network = drq.Drq(built.machine("drq")).network(digits[0], THRESHOLDS)
    readers = {layer.name: layer.threshold for layer in network.layers if getattr(layer, "threshold", 0) and layer.input == network.layers[3].input}
    shared = masked.thresholds(network)
    assert all(shared[layer.input] <= layer.threshold for layer in network.layers if getattr(layer, "threshold", 0))
    assert {layer.threshold for layer in masked.unified(network).layers if layer.name in readers} == {min(readers.values())}


def test_masks_do_not_overlap(digits, masked_network):
    """While a mask waits for its last reader nobody writes over it."""
    _, network = masked_network
    config = built.machine("drq")
    _, program = programs_of(network, config, network.encode(digits[1][0]))
    layers, alive = [command for command in program if isinstance(command, Layer)], {}
    by_name = {layer.name: layer for layer in network.layers}
    last = {by_name[layer.tag].input: at for at, layer in enumerate(layers) if layer.masked}
    for at, layer in enumerate(layers):
        assert isinstance(layer, MaskedLayer)
        if layer.masked:
            assert (layer.mask_base, layer.mask_plane, layer.mask_pitch) == alive[by_name[layer.tag].input][1]
        if layer.predict:
            words = -(-layer.out_channels // config.word) * layer.predict_plane
            place = range(layer.predict_base, layer.predict_base + words)
            assert all(place.stop <= other.start or other.stop <= place.start for name, (other, _) in alive.items() if last[name] >= at)
            alive[layer.tag] = place, (layer.predict_base, layer.predict_plane, layer.predict_pitch)
    assert alive.keys() == masked.thresholds(network).keys()


def test_input_without_a_producer(digits):
    network = drq.Drq(built.machine("drq")).network(digits[0], {"stem": 20})
    with pytest.raises(NetworkError, match=r"^network 'digits': the input '\w+' has no layer before it that could predict its mask$"):
        built.compiled_for(network, built.machine("drq"))


def codes_and_cycles(arithmetic, network, config, images):
    """The golden machine has the codes of the integer model and takes the cycles that are said."""
    compiled, program = programs_of(network, config, network.encode(images))
    machine = Machine(config, images=IMAGES)
    machine.run(compiled.setup())
    result, last = machine.run(program), network.layers[-1].name
    assert np.array_equal(compiled.unpack(result.outputs)[last], arithmetic.run(network, images)[last])
    assert built.build(arithmetic, network, config, images).total == result.busy


@pytest.mark.parametrize("modes", [{}, {"block1_b": (4, 4)}, {"block2_b": (4, 4), "block1_b": (8, 4)}, {"block1_b": (4, 8)}])
def test_static_on_the_golden_machine(digits, modes):
    config, images = built.machine("static"), digits[1]
    arithmetic = static.Static(config)
    network = arithmetic.network(digits[0], modes)
    assert not any(getattr(layer, "drop", 0) for layer in network.layers)
    codes_and_cycles(arithmetic, network, config, images)


@pytest.mark.parametrize("name", ["small", "small-plain"])
def test_sdp_on_the_golden_machine(digits, name):
    """Budgets and weight modes are its own, whatever bits a digit has."""
    config, images = built.machine("sdp", CONFIGS[name]), digits[1]
    arithmetic = Sdp(config)
    network = arithmetic.network(digits[0], {"block1_a": (3, True), "block1_b": (5, False)})
    codes_and_cycles(arithmetic, network, config, images)


def test_bits_cost_cycles(digits):
    config = built.machine("static")
    arithmetic = static.Static(config)
    cycles = {mode: dict(zip(made.names, made.cycles)) for mode in ((4, 4), (8, 4), (8, 8))
              for made in [built.build(arithmetic, arithmetic.network(digits[0], {"block1_b": mode}), config, digits[1])]}
    narrow, half, whole = (cycles[mode]["block1_b"] for mode in cycles)
    assert 1.8 < half / narrow < 2 and 1.8 < whole / half < 2
    assert all(cycles[4, 4][name] == value for name, value in cycles[8, 8].items() if name != "block1_b")


def test_energy_of_drq_counts_its_own_memories(digits, masked_network):
    arithmetic, network = masked_network
    config, images = built.machine("drq"), digits[1]
    made, constants = built.build(arithmetic, network, config, images), Constants("published")
    own = energy.drq_memories(made, constants)
    steps = [(-(-c.out_h * c.out_w // 32) * -(-c.out_channels // 16), c.kernel_h * c.kernel_w * c.in_words) for c in made.layers if c.kind.name == "CONV"]
    sums = sum(tiles * taps for tiles, taps in steps) * 32 * 16 * config.accumulator_bits
    moved = sum((program_traffic(config, program) for program in made.programs), Traffic())
    results = sum(c.out_h * c.out_w * c.out_channels for c in made.layers if c.predict)
    wanted = (constants.sram(64, "read").value + constants.sram(64, "write").value) * (sums + 15 * results) \
        + constants.sram(1024, "read").value * moved.mask_reads * 16 + constants.sram(1024, "write").value * moved.mask_writes * 8
    assert own.value == pytest.approx(wanted) and moved.mask_reads and moved.mask_writes
    products = energy.products(arithmetic, network, images)
    found = energy.inference(made, products, None)["published"]
    assert found["array"] * 1e6 == pytest.approx(sum(products.values()) * constants.element(4).value + sum(
        constants.array(config, layer).value for layer in made.layers if layer.kind.name != "CONV"))
    assert found["total"]["value"] == pytest.approx(sum(found[part] for part in ("array", "activations", "weights", "scales", "dram")))
    assert found["activations"] * 1e6 == pytest.approx(moved_energy(config, constants, moved)["activations"].value + own.value)


def test_energy_without_loads(digits):
    """What resident weights would save are the loads' bits, once from DRAM and once into their memory."""
    arithmetic, images = static.Static(built.machine("int8")), digits[1]
    network, constants = arithmetic.network(digits[0], {}), Constants("published")
    products = energy.products(arithmetic, network, images)
    saved = {}
    for words, scales in ((3200, 512), (160, 8)):
        config = dataclasses.replace(built.machine("int8"), weight_words=words, scale_words=scales)
        made = built.build(arithmetic, network, config, images)
        found = energy.inference(made, products, None)["published"]
        saved[words] = found["total"]["value"] - found["resident"]
        loads = {opcode: [c.data for p in made.programs for c in p if getattr(c, "opcode", None) is opcode] for opcode in (Opcode.LOAD_WEIGHTS, Opcode.LOAD_SCALES)}
        bits = {opcode: 8 * sum(data.size for data in found) for opcode, found in loads.items()}
        commands = config.stream_bits * sum(map(len, loads.values()))
        assert all(loads.values()) == (words == 160)
        wanted = (commands + sum(bits.values())) * constants.dram().value + bits[Opcode.LOAD_WEIGHTS] * constants.sram(words, "write").value \
            + config.scale_word_bits * sum(map(len, loads[Opcode.LOAD_SCALES])) * constants.sram(config.scale_words, "write").value
        assert saved[words] * 1e6 == pytest.approx(wanted)
    assert saved[3200] == 0 and saved[160] > 0.1
