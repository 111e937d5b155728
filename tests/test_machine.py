"""The golden machine: layers against onnxruntime and loops, stores, hazards, what it refuses, and its clock."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.cycles import layer_cycles, term_slots
from golden.machine import HazardError, Machine
from golden.output_stage import pack_scales, requantize
from golden.term_select import select, sequence
from golden.weights import W4_VALUES, pack, split_w8
from sdp.encoding import encode
from sdp.program import End, Error, Kind, Layer, Load, Opcode, ProgramError, Store
from sim.random_layer import build, draw
from tests import reference
from tests.sizes import UNIT

HALF = UNIT.activation_words // 2


def plane(pixels):
    return -(-pixels // UNIT.ports) * UNIT.ports


def tensor_words(image, base, plane):
    """{address: bytes} of an (h, w, c) tensor, as ``sdp.program`` lays it."""
    h, w, c = image.shape
    words = {}
    for word in range(-(-c // 12)):
        for y in range(h):
            for x in range(w):
                codes = [int(v) % 256 for v in image[y, x, 12 * word : 12 * word + 12]]
                words[base + word * plane + y * w + x] = codes + [0xA5] * (12 - len(codes))  # what lies beyond the channels must not matter
    return words


def weight_words(weights, w4):
    """(high, low) digits of memory words: block, kernel row, kernel column, channel word; column; slot."""
    kh, kw, c, channels = weights.shape
    block, words = (10 if w4 else 5), -(-c // 12)
    high, low = [], []
    for b in range(-(-channels // block)):
        for ky in range(kh):
            for kx in range(kw):
                for word in range(words):
                    rows = np.zeros((2, 5, 12), dtype=int)
                    for column in range(5):
                        for slot in range(12):
                            def at(channel):
                                ci = 12 * word + slot
                                return int(weights[ky, kx, ci, channel]) if ci < c and channel < channels else 0
                            if w4:
                                rows[:, column, slot] = at(b * 10 + 5 + column), at(b * 10 + column)
                            else:
                                rows[:, column, slot] = [int(d[0]) for d in split_w8(np.array([at(b * 5 + column)]))]
                    high.append(rows[0])
                    low.append(rows[1])
    return np.array(high), np.array(low)


def loads(words):
    return [Load(opcode=Opcode.LOAD_ACTIVATIONS, address=a, data=np.array([codes], dtype=np.uint8)) for a, codes in words.items()]


def read(machine, base, plane, h, w, c):
    """(h, w, c) bytes of a tensor in the machine's memory."""
    return np.array([[[machine.activations[0, base + i // 12 * plane + y * w + x, i % 12] for i in range(c)] for x in range(w)] for y in range(h)])


@st.composite
def convolutions(draw):
    h, w, c, channels = draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.integers(1, 20)), draw(st.integers(1, 13))
    kernel = draw(st.integers(1, min(3, h))), draw(st.integers(1, min(3, w)))
    pad = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    end = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    out = tuple((size + p + e - k) // s + 1 for size, p, e, k, s in zip((h, w), pad, end, kernel, stride))
    return (h, w, c, channels), kernel, stride, pad, out


@given(convolutions(), st.integers(0, 2**32), st.booleans(), st.booleans(), st.booleans(), st.integers(1, 8))
@settings(max_examples=40)
def test_layer_equals_reference_and_onnxruntime(geometry, seed, signed, w4, residual, budget):
    """Whole path: tensors and weights laid out here by hand, sums of onnxruntime's ConvInteger (of the masked image, which at the
    whole budget is the image), requantized with exact integers."""
    pytest.importorskip("onnxruntime")
    (h, w, c, channels), kernel, stride, pad, out = geometry
    rng = np.random.default_rng(seed)
    image = rng.integers(-128 if signed else 0, 128 if signed else 256, (h, w, c))
    image[rng.random(image.shape) < 0.3] = 0
    weights = rng.choice(W4_VALUES, (*kernel, c, channels)) if w4 else rng.integers(-128, 128, (*kernel, c, channels))
    high, low = weight_words(weights, w4)
    if len(high) > UNIT.weight_words:
        return
    in_plane, out_plane = plane(h * w), plane(out[0] * out[1])
    bias, multiplier = rng.integers(-(2**17), 2**17, channels), rng.integers(0, 2**18, channels)
    shift, clamp = int(rng.integers(8, 36)), [(0, 255), (-128, 127)][int(rng.integers(2))]
    other = rng.integers(-128, 128, (*out, channels))
    layer = Layer(
        kind=Kind.CONV, w4=w4, in_signed=signed, budget=budget, in_base=6, in_plane=in_plane, in_h=h, in_w=w, in_words=-(-c // 12), in_tail=(c - 1) % 12 + 1,
        kernel_h=kernel[0], kernel_w=kernel[1], stride_h=stride[0], stride_w=stride[1], pad_top=pad[0], pad_left=pad[1], out_base=HALF, out_plane=out_plane,
        out_h=out[0], out_w=out[1], out_channels=channels, weight_base=int(rng.integers(UNIT.weight_words - len(high) + 1)), scale_base=3,
        residual=residual, residual_signed=True, residual_base=HALF + 128, residual_multiplier=int(rng.integers(2**18)), shift=shift,
        clamp_low=clamp[0], clamp_high=clamp[1])
    machine = Machine(UNIT)
    result = machine.run([
        *loads(tensor_words(image, 6, in_plane)), *loads(tensor_words(other, HALF + 128, out_plane)),
        Load(opcode=Opcode.LOAD_WEIGHTS, address=layer.weight_base, data=pack(UNIT, high, low)),
        Load(opcode=Opcode.LOAD_SCALES, address=3, data=pack_scales(UNIT, bias, multiplier)), layer, End()])

    padded = np.zeros((h, w, -(-c // 4) * 4), dtype=np.int16)
    padded[..., :c] = image
    masked = padded
    if budget < 8:
        masked = np.zeros_like(padded)
        for y, x, g in np.ndindex(h, w, padded.shape[2] // 4):
            for value, is_high, index in sequence(padded[y, x, 4 * g : 4 * g + 4].tolist(), budget):
                masked[y, x, 4 * g + index] += value * 16**is_high
    acc = reference.conv_integer(masked[None, ..., :c], weights, stride, pad, out)
    expected = requantize(acc, bias, multiplier, shift, *clamp, other[None] if residual else 0, layer.residual_multiplier)[0]
    assert (read(machine, HALF, out_plane, *out, channels) == expected % 256).all(), f"seed {seed}"
    assert result.layers[0].cycles == layer_cycles(UNIT, layer).total
    assert result.layers[0].terms[0] + result.layers[0].empty[0] == term_slots(UNIT, layer)


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_terms_are_counted_as_the_array_sees_them(seed):
    """Every tile reads its windows anew: so many terms per pixel of a window, for every block of output channels."""
    case = dataclasses.replace(draw(UNIT, seed), kind=0)
    commands = build(UNIT, [case]) if case.kind == 0 and draw(UNIT, seed).kind == 0 else None
    if commands is None:
        return
    layer = next(c for c in commands if isinstance(c, Layer))
    machine = Machine(UNIT)
    machine.run([c for c in commands if isinstance(c, Load)])
    image = machine._image(layer, layer.in_words)[0]
    image[..., (layer.in_words - 1) * 12 + layer.in_tail :] = 0
    per_pixel = select(image, layer.budget, 4)[1].sum(-1)
    blocks, terms = -(-layer.out_channels // UNIT.block(layer.w4)), 0
    for y, x, ky, kx in np.ndindex(layer.out_h, layer.out_w, layer.kernel_h, layer.kernel_w):
        at = y * layer.stride_h - layer.pad_top + ky, x * layer.stride_w - layer.pad_left + kx
        if 0 <= at[0] < layer.in_h and 0 <= at[1] < layer.in_w:
            terms += int(per_pixel[at])
    assert machine.run([layer]).layers[0].terms.tolist() == [blocks * terms]


@pytest.mark.parametrize("kind", [Kind.MAX, Kind.SUM])
@pytest.mark.parametrize("signed", [False, True])
def test_pooling_layer(kind, signed):
    rng = np.random.default_rng(7)
    image = rng.integers(-128 if signed else 0, 128 if signed else 256, (6, 5, 15))
    layer = Layer(kind=kind, in_signed=signed, in_base=0, in_plane=30, in_h=6, in_w=5, in_words=2, in_tail=3, kernel_h=3, kernel_w=2, stride_h=2, stride_w=1,
                  pad_top=2, pad_left=1, out_base=HALF, out_plane=24, out_h=4, out_w=6, out_channels=15, shift=10, clamp_low=-128 if signed else 0,
                  clamp_high=127 if signed else 255)
    bias, multiplier = rng.integers(-3, 3, 15), np.full(15, 1024 if kind is Kind.MAX else 171)
    machine = Machine(UNIT)
    machine.run([*loads(tensor_words(image, 0, 30)), Load(opcode=Opcode.LOAD_SCALES, address=0, data=pack_scales(UNIT, bias, multiplier)), layer, End()])
    acc = reference.pooling(image[None], kind is Kind.MAX, (3, 2), (2, 1), (2, 1), (4, 6)).astype(int)
    expected = requantize(acc, bias, multiplier, 10, layer.clamp_low, layer.clamp_high)[0]
    assert (read(machine, HALF, 24, 4, 6, 15) == expected % 256).all()


def test_only_whole_chunks_of_the_output_channels_are_written():
    layer = Layer(kind=Kind.MAX, in_base=0, in_plane=2, in_h=1, in_w=1, in_words=1, in_tail=5, out_base=HALF, out_plane=2, out_h=1, out_w=1, out_channels=5,
                  clamp_low=0, clamp_high=255)
    machine = Machine(UNIT)
    machine.activations[:] = 77
    machine.run([layer])
    assert machine.activations[0, HALF].tolist() == [0] * 5 + [77] * 7  # multipliers are zero; outputs = 1
    assert (np.delete(machine.activations, HALF, axis=1) == 77).all()


def test_store_masks_the_tail_and_keeps_the_order():
    machine = Machine(UNIT)
    data = np.arange(1, 37, dtype=np.uint8).reshape(3, 12)
    result = machine.run([Load(opcode=Opcode.LOAD_ACTIVATIONS, address=5, data=data), Store(address=6, count=2, tail=5), Store(address=5, count=1, tail=12), End()])
    assert result.outputs.tolist() == [[[*range(13, 18), *[0] * 7], [*range(25, 30), *[0] * 7], [*range(1, 13)]]]


def test_images_run_side_by_side():
    cases = [draw(UNIT, seed) for seed in (3, 5)]
    programs = [build(UNIT, [case]) for case in cases[:1]]
    alone = Machine(UNIT)
    expected = alone.run(programs[0]).outputs[0]
    both = Machine(UNIT, images=2).run(programs[0]).outputs
    assert (both[0] == expected).all() and (both[1] == expected).all()
    stream = encode(UNIT, programs[0])
    assert (Machine(UNIT).run(stream).outputs[0] == expected).all()


LAYER = Layer(kind=Kind.CONV, in_base=0, in_plane=4, in_h=2, in_w=2, in_words=1, in_tail=12, out_base=HALF, out_plane=4, out_h=2, out_w=2, out_channels=5,
              tag="one")


@pytest.mark.parametrize("changes, code, message", [
    ({"in_words": 129, "in_plane": 2}, Error.REDUCTION, "129 words per output, allowed are 128"),
    ({"in_words": 65, "in_plane": 2, "kernel_h": 2}, Error.REDUCTION, "130 words per output, allowed are 128"),
    ({"weight_base": 159, "in_words": 2}, Error.WEIGHT_ADDRESS, "weights end at 161 of 160 words"),
    ({"weight_base": 159, "out_channels": 6}, Error.WEIGHT_ADDRESS, "weights end at 161 of 160 words"),
    ({"scale_base": 124}, Error.SCALE_ADDRESS, "scales end at 129 of 128 words"),
    ({"in_base": 1022}, Error.ADDRESS, "input reaches address 1025 of 1024"),
    ({"out_base": 1022}, Error.ADDRESS, "output reaches address 1025 of 1024"),
    ({"residual": True, "residual_base": 1022}, Error.ADDRESS, "residual reaches address 1025 of 1024"),
    ({"residual": True, "residual_base": 510, "in_base": 600}, Error.ADDRESS, "residual reaches from 510 to 513, over the border of the halves at 512"),
    ({"residual": True, "in_base": 510, "residual_base": 600, "out_base": 700}, Error.ADDRESS, "input reaches from 510 to 513, over the border of the halves at 512"),
    ({"budget": 9}, Error.BUDGET, "budget = 9, allowed are 1 ... 8"),
    ({"residual": True, "residual_base": 4}, Error.RESIDUAL, "input at 0 and residual at 4 lie in the same half of the activation memory (512 words each)"),
])
def test_layers_that_cannot_run(changes, code, message):
    with pytest.raises(ProgramError) as caught:
        Machine(UNIT).run([dataclasses.replace(LAYER, **changes)])
    assert caught.value.code is code and str(caught.value) == f"{code.name}: layer 'one': {message}"


@pytest.mark.parametrize("changes", [
    {"in_words": 128, "in_plane": 2}, {"weight_base": 159}, {"scale_base": 123}, {"in_base": 1020, "out_base": 0}, {"out_base": 1020},
    {"residual": True, "residual_base": 1020}, {"in_h": 2, "in_base": 1022, "out_base": 0, "kernel_h": 1, "out_h": 1},
])
def test_layers_at_the_limits_run(changes):
    assert Machine(UNIT).run([dataclasses.replace(LAYER, **changes)]).layers[0].cycles > 0


@pytest.mark.parametrize("out_base, overlaps", [(0, True), (2, True), (4, False)])
def test_output_over_input_is_a_hazard(out_base, overlaps):
    layer = dataclasses.replace(LAYER, out_base=out_base)
    if overlaps:
        with pytest.raises(HazardError, match=rf"^layer 'one': output \({out_base}, {out_base + 3}\) overlaps input \(.*0.*, .*3.*\)$"):
            Machine(UNIT).run([layer])
    else:
        assert len(Machine(UNIT).run([layer]).layers) == 1


@pytest.mark.parametrize("opcode, name", [(Opcode.LOAD_WEIGHTS, "LOAD_WEIGHTS"), (Opcode.LOAD_SCALES, "LOAD_SCALES")])
def test_loads_over_what_a_layer_reads_are_hazards_without_sync(opcode, name):
    width = (UNIT.weight_beats if opcode is Opcode.LOAD_WEIGHTS else UNIT.scale_beats) * 12
    layer = dataclasses.replace(LAYER, weight_base=10, scale_base=10, out_channels=6)
    used = 2 if opcode is Opcode.LOAD_WEIGHTS else 6

    def load(address, sync):
        return [layer, Load(opcode=opcode, address=address, data=np.zeros((1, width), np.uint8), sync=sync), End()]

    for address in (10, 9 + used):
        with pytest.raises(HazardError, match=rf"^{name} at {address} overwrites what layer 'one' still reads; set its sync bit$"):
            Machine(UNIT).run(load(address, False))
        assert Machine(UNIT).run(load(address, True)).cycles > 0
    for address in (9, 10 + used):
        assert Machine(UNIT).run(load(address, False)).cycles < Machine(UNIT).run(load(address, True)).cycles


def test_clock():
    """Cycles counted by hand from hw.decoder's description: header beats, check, dispatch, data, store tail, waits for the layer."""
    data = np.zeros((2, 12), np.uint8)
    layer = layer_cycles(UNIT, LAYER).total
    load = Load(opcode=Opcode.LOAD_ACTIVATIONS, address=0, data=data)
    weights = Load(opcode=Opcode.LOAD_WEIGHTS, address=100, data=np.zeros((1, 84), np.uint8))
    end = 1 + 1  # header beat, check; `done` is dispatched in the cycle after
    start = 2  # start register, idle state
    assert Machine(UNIT).run([End()]).cycles == start + end
    assert Machine(UNIT).run([load, End()]).cycles == start + (1 + 1 + 1 + 2) + end
    assert Machine(UNIT).run([weights, End()]).cycles == start + (1 + 1 + 1 + 7) + end
    assert Machine(UNIT).run([Store(address=0, count=5, tail=1), End()]).cycles == start + (2 + 1 + 1 + 5 + 3) + end
    # A layer is dispatched in a cycle, runs from the next on, and the decoder sees the engine idle one later.
    assert Machine(UNIT).run([LAYER, End()]).cycles == start + (6 + 1) + layer + 1
    assert Machine(UNIT).run([LAYER, load, End()]).cycles == start + (6 + 1) + layer + 1 + (1 + 2) + end
    # Weights are loaded beside the layer as long as it runs.
    assert Machine(UNIT).run([LAYER, weights, End()]).cycles == start + (6 + 1) + layer + 1
    assert Machine(UNIT).run([LAYER, LAYER, End()]).busy == 2 * layer
