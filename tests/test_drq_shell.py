"""DRQ in the shell: header, controller, masks in the golden machine, and what is refused; random layers are in test_fuzz."""

import dataclasses
import json

import numpy as np
import pytest

from golden import sensitivity_predictor
from golden.hazard import HazardError
from golden.machine import Machine
from golden.traffic import command_traffic, moved_bits, program_traffic
from hw.controller import Controller
from sdp.config import BASELINES, NAMED, Config
from sdp.encoding import decode, encode
from sdp.program import (
    FIELDS,
    MASK_FIELDS,
    MASKED_LAYER_WORDS,
    End,
    Error,
    Layer,
    Load,
    MaskedLayer,
    Opcode,
    ProgramError,
    fields,
    header_words,
    limits,
)
from sim.cocotb_runner import SimulationError
from sim.harness import Harness
from sim.random_layer import Case, build, draw
from tests.test_mutations import mutant
from tests.units import simulate

SMALL = BASELINES["drq-small"]
ODD = Config(name="drq-odd", array="drq", group=4, lanes=3, rows=7, columns=5, ports=1, outputs=1, reduction=1536, activation_words=1024, weight_words=160,
             scale_words=128, scale_bits=18, log_layers=8)
CASE = Case(seed=5, channels_in=40, channels_out=20, in_h=9, in_w=11, kernel_h=3, kernel_w=3, pad_top=1, pad_left=1, masked=1, predict=1, region_h=1, region_w=2,
            threshold=5)


def program(case=CASE, config=SMALL, **changes):
    """The case's program with fields of its own layer changed."""
    return [dataclasses.replace(c, **changes) if isinstance(c, Layer) and c.tag == str(case) else c for c in build(config, [case])]


@pytest.mark.parametrize("config", [ODD, dataclasses.replace(ODD, name="drq-wide", group=8, rows=32, lanes=2, outputs=1)], ids=lambda c: c.name)
def test_controller(config):
    simulate("drq_controller", "icarus", config, make=Controller, sizes=json.dumps(config.parameters()))


@pytest.mark.parametrize("old, new", [
    ("region_x.eq(in_x >> layer.region_w)", "region_x.eq(in_x >> layer.region_h)"),
    ("region_y.eq(in_y >> layer.region_h)", "region_y.eq(head.in_y >> layer.region_h)"),
    ("Mux(word_ends, 0, mask_word + layer.mask_plane)", "mask_word + layer.mask_plane"),
    ("valid[0] & layer.masked & ~pooling", "valid[0]"),
    ("mask_plane + region_y * layer.mask_pitch + region_x", "mask_plane + region_y * layer.mask_pitch"),
    ("Mux(self.layer.kind == Kind.CONV, self.stall, drain) if", "0 if"),
    ("Mux(self.layer.kind == Kind.CONV, self.stall, drain) if", "(self.stall | drain) if"),
])
def test_mutation_of_the_controller_is_caught(old, new, tmp_path):
    with pytest.raises(SimulationError, match=r"failed: \w"):
        simulate("drq_controller", "icarus", ODD, make=mutant("drq_controller", "controller", old, new), build=tmp_path, sizes=json.dumps(ODD.parameters()))


def test_header_has_room_for_its_fields():
    taken = {}
    for f in fields(SMALL):
        for bit in range(f.lsb, f.lsb + f.bits):
            assert bit < 32 and 1 <= f.word < MASKED_LAYER_WORDS == header_words(SMALL, Opcode.LAYER) and taken.setdefault((f.word, bit), f.name) == f.name
    assert {f.name for f in MASK_FIELDS} == {f.name for f in dataclasses.fields(MaskedLayer)} - {f.name for f in dataclasses.fields(Layer)}
    assert fields(NAMED["small"]) == FIELDS and fields(SMALL) == FIELDS + MASK_FIELDS
    bounds = {name: high for name, _, high, _ in limits(SMALL)}
    assert all(f.bits == 1 or bounds[f.name] < 1 << f.bits for f in MASK_FIELDS)


def test_masked_layers_survive_encoding():
    commands = program()
    found = decode(SMALL, encode(SMALL, commands))
    layers = [c for c in commands if isinstance(c, Layer)]
    assert [c for c in found if isinstance(c, Layer)] == layers and all(isinstance(layer, MaskedLayer) for layer in layers)
    # A layer that says nothing of masks has none.
    plain = next(c for c in decode(SMALL, encode(SMALL, build(NAMED["small"], [Case(seed=1)])[-3:])) if isinstance(c, Layer))
    assert isinstance(plain, MaskedLayer) and not plain.masked and not plain.predict


def test_masks_are_refused_by_other_arrays():
    with pytest.raises(ValueError, match=r"^layer .*: predict, region_h, .*, predict_pitch of an array that has no masks, 'sdp'$"):
        encode(NAMED["small"], program())


def test_hardware_refuses_what_golden_refuses():
    streams, expected = [], []
    by_name = {f.name: f for f in MASK_FIELDS}
    for name, _, high, error in limits(SMALL):
        if name in by_name:
            for value in {high + 1, (1 << by_name[name].bits) - 1}:
                streams.append(encode(SMALL, program(**{name: value})))
                expected.append(error)
                with pytest.raises(ProgramError, match=rf"^{error.name}: layer 'beat \d+': {name} = {value}, allowed are 0 ... {high}$"):
                    Machine(SMALL).run(streams[-1])
    streams.append(encode(SMALL, program()))
    assert [result.error for result in Harness(SMALL).run(streams)] == [*expected, Error.NONE]


@pytest.mark.parametrize("changes, message", [
    ({"mask_base": 1023}, r"masks of its input reach address \d+ of 1024"),
    ({"predict_base": 1020}, r"masks of its output reach address \d+ of 1024"),
    ({"predict_plane": 1000}, r"masks of its output reach address \d+ of 1024"),
    ({"mask_base": 0, "predict_base": 5, "predict_plane": 9, "mask_plane": 25, "mask_pitch": 5},
     r"masks of its output \(5 ... \d+\) overlap those of its input \(0 ... \d+\)"),
])
def test_what_the_hardware_does_not_notice(changes, message):
    with pytest.raises(HazardError, match=rf"^layer '.*': {message}$"):
        Machine(SMALL).run(program(**changes))


def test_more_regions_than_the_predictor_holds():
    case = dataclasses.replace(CASE, in_h=1, kernel_h=1, pad_top=0, in_w=66, kernel_w=1, pad_left=0, channels_out=3, channels_in=3, region_w=0)
    with pytest.raises(HazardError, match=r"66 regions side by side, the predictor holds 64$"):
        Machine(SMALL).run(program(case))


def test_masks_decide_sums_and_cycles():
    """Threshold 0: all sensitive, as without masks; 256: none, and the fewest cycles; both in one program that makes its own masks."""
    results = {}
    for threshold in (0, 5, 256):
        commands = build(SMALL, [dataclasses.replace(CASE, threshold=threshold, predict=0)])
        results[threshold] = Machine(SMALL).run([dataclasses.replace(c, tag="l") if isinstance(c, Layer) else c for c in commands])
    bare = Machine(SMALL).run(build(SMALL, [dataclasses.replace(CASE, masked=0, predict=0)]))
    np.testing.assert_array_equal(results[0].outputs, bare.outputs)
    assert results[0].layers[-1].cycles[0] == bare.layers[-1].cycles[0] > results[5].layers[-1].cycles[0] > results[256].layers[-1].cycles[0]
    assert (results[256].outputs != bare.outputs).any() and (results[5].outputs != results[256].outputs).any()


def test_images_at_once_take_the_cycles_that_each_takes_alone():
    config, images = SMALL, 3
    cases = [draw(config, 40 + n) for n in range(12)]
    commands = build(config, [CASE, *cases])
    rng = np.random.default_rng(0)
    inputs = [rng.integers(0, 256, (images, *c.data.shape), dtype=np.uint8) // rng.integers(1, 20, (images, 1, 1), dtype=np.uint8)
              if isinstance(c, Load) and c.opcode is Opcode.LOAD_ACTIVATIONS else None for c in commands]

    def run(machine, select):
        return machine.run([c if data is None else dataclasses.replace(c, data=select(data)) for c, data in zip(commands, inputs)])

    together = run(Machine(config, images), lambda data: data)
    assert len(set(together.cycles.tolist())) == images
    for image in range(images):
        alone = run(Machine(config), lambda data: data[image])
        np.testing.assert_array_equal(alone.outputs[0], together.outputs[image])
        assert alone.cycles[0] == together.cycles[image] and alone.busy[0] == together.busy[image]
        for a, b in zip(alone.layers, together.layers):
            for name in ("start", "cycles", "terms", "empty"):
                assert np.broadcast_to(getattr(a, name), 1)[0] == np.broadcast_to(getattr(b, name), images)[image]


def test_masks_are_those_of_the_codes_written():
    """The memory of the golden machine against the rule, applied to what was stored."""
    machine = Machine(SMALL)
    commands = program()
    layer = next(c for c in commands if isinstance(c, Layer) and c.tag == str(CASE))
    machine.run(commands)
    pixels = layer.out_h * layer.out_w
    words = [machine.activations[0, layer.out_base + n * layer.out_plane :][:pixels] for n in range(2)]
    codes = np.concatenate(words, axis=-1).astype(np.int16).reshape(1, layer.out_h, layer.out_w, -1)[..., : layer.out_channels]
    codes = np.where((codes > 127) & (layer.clamp_low < 0), codes - 256, codes)
    masks = sensitivity_predictor.predict(codes, layer.threshold, layer.region_h, layer.region_w)[0]
    for (i, j, channel), sensitive in np.ndenumerate(masks):
        address = layer.predict_base + channel // 16 * layer.predict_plane + i * layer.predict_pitch + j
        assert machine.masks[0, address, channel % 16] == sensitive


def test_traffic_of_masks():
    commands = program()
    layer = next(c for c in commands if isinstance(c, Layer) and c.tag == str(CASE))
    found = command_traffic(SMALL, layer)
    # A word of masks with each word of operands; a part of 8 bits for each region of 2 x 4 pixels and each 8 of 20 channels.
    assert found.mask_reads == found.operand_reads > 0 and found.mask_writes == 4 * 3 * 3
    assert moved_bits(SMALL, found)["masks"] == (16 * found.mask_reads, 8 * found.mask_writes)
    unmasked = dataclasses.replace(layer, masked=False, predict=False)
    assert command_traffic(SMALL, unmasked) == dataclasses.replace(found, mask_reads=0, mask_writes=0)
    assert program_traffic(NAMED["small"], [End()]).mask_reads == 0 and "masks" not in moved_bits(NAMED["small"], found)
