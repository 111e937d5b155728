"""DRQ's array in time: the golden cycles of a layer against an array that ticks, and what must hold of them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import cycles
from golden.drq_array import QUEUE, READ_STAGES, SLOW, Array, ideal_cycles, layer_cycles
from sdp.program import Kind, Layer
from tests import reference
from tests.test_drq_array import SIZES, SMALL, by_name
from tests.test_mac_array import geometries


def ticks(config, steps, drain):
    """Cycle by cycle, with an eager source: cycles of all captures, and how many cycles of rows held a pixel.

    ``steps``: (for each pixel the cycles that it works in each row, ends a tile).
    """
    pixels = [(number, list(work)) for number, (works, _) in enumerate(steps) for work in works]
    issued, coming, queue, allowed = 0, [None] * READ_STAGES, [], [1] * READ_STAGES
    rows, gone, entered = [None] * config.word, 0, 0
    complete, busy, captured, held = False, 0, [], 0
    for now in itertools.count():
        arrives, stall = coming.pop(0), len(queue) + sum(allowed) >= QUEUE
        assert len(queue) <= QUEUE
        if complete and not busy:
            captured.append(now)
            complete, busy, blocked = False, drain, False
            if len(captured) == sum(last for _, last in steps):
                return captured, held
        else:
            blocked = complete
        held += sum(row is not None for row in rows)
        # From the last row up: who has done its work, and is free to go.
        ready, goes = not blocked, [False] * config.word
        for n in reversed(range(config.word)):
            if rows[n] is not None:
                rows[n][1][n] -= rows[n][1][n] > 0
                goes[n] = rows[n][1][n] == 0 and ready
            ready = rows[n] is None or goes[n]
        if goes[-1]:
            gone += 1
            complete |= gone % config.rows == 0 and steps[rows[-1][0]][1]
        for n in reversed(range(config.word)):
            if goes[n]:
                if n + 1 < config.word:
                    rows[n + 1] = rows[n]
                rows[n] = None
        # Registers for the weights of two steps.
        if queue and ready and gone >= (queue[0][0] - 1) * config.rows:
            number, work = queue.pop(0)
            rows[0], entered = (number, work), entered + 1
        if arrives is not None:
            queue.append(arrives)
        coming.append(pixels[issued] if issued < len(pixels) and not stall else None)
        issued += coming[-1] is not None
        allowed, busy = [int(not stall), *allowed[:-1]], max(0, busy - 1)


def steps_of(config, layer, masks):
    """A layer's steps of one image, loop by loop."""
    pixels = [(y, x) for y in range(layer.out_h) for x in range(layer.out_w)]
    pixels += [None] * (-len(pixels) % config.rows)
    for _ in range(0, layer.out_channels, config.block(False)):
        for tile in range(0, len(pixels), config.rows):
            for ky, kx, word in itertools.product(range(layer.kernel_h), range(layer.kernel_w), range(layer.in_words)):
                works = []
                for pixel in pixels[tile : tile + config.rows]:
                    works.append([1] * config.word)
                    if pixel is not None:
                        y, x = pixel[0] * layer.stride_h - layer.pad_top + ky, pixel[1] * layer.stride_w - layer.pad_left + kx
                        if 0 <= y < layer.in_h and 0 <= x < layer.in_w:
                            count = layer.in_tail if word == layer.in_words - 1 else config.word
                            works[-1] = [SLOW if i < count and masks[y, x, word * config.word + i] else 1 for i in range(config.word)]
                yield works, (ky, kx, word) == (layer.kernel_h - 1, layer.kernel_w - 1, layer.in_words - 1)


def convolution(config, kernel, stride, pad, size, out, channels, out_channels):
    words = -(-channels // config.word)
    return Layer(kind=Kind.CONV, in_base=0, in_plane=0, in_h=size[0], in_w=size[1], in_words=words, in_tail=channels - (words - 1) * config.word,
                 out_base=0, out_plane=0, out_h=out[0], out_w=out[1], out_channels=out_channels, kernel_h=kernel[0], kernel_w=kernel[1],
                 stride_h=stride[0], stride_w=stride[1], pad_top=pad[0], pad_left=pad[1])


@st.composite
def cases(draw):
    """(config, layer, masks of two or three images)"""
    config = draw(st.sampled_from(SIZES[:3]))
    (_, h, w, _, _), kernel, stride, pad, out = draw(geometries(largest=5))
    channels = draw(st.integers(1, 2 * config.word))
    layer = convolution(config, kernel, stride, pad, (h, w), out, channels, draw(st.integers(1, 2 * config.block(False))))
    rng, share = np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.sampled_from((0.0, 0.02, 0.1, 0.5, 0.9, 1.0)))
    # What lies behind the last channel is nobody's.
    return config, layer, rng.random((draw(st.integers(2, 3)), h, w, layer.in_words * config.word)) < share


def captures(config, layer, total):
    """Of the last tile, from the layer's first read on."""
    return total - cycles.START_STAGES - config.rows // config.ports - cycles.drain(config, Kind.CONV, False) - cycles.OUTPUT_STAGES


def compare(config, layer, masks):
    found = layer_cycles(config, layer, masks)
    for image in range(len(masks)):
        steps = list(steps_of(config, layer, masks[image]))
        captured, held = ticks(config, steps, cycles.drain(config, Kind.CONV, False))
        work = sum(sum(map(sum, works)) for works, _ in steps)
        assert (captures(config, layer, found.total[image]), found.terms[image], found.empty[image]) == (captured[-1], work, held - work)


@given(cases())
@settings(max_examples=200)
def test_cycles_equal_an_array_that_ticks(case):
    compare(*case)


@pytest.mark.parametrize("config", SIZES[:3], ids=by_name)
def test_tiles_that_come_faster_than_they_drain_hold_up_the_array(config):
    """One step each, none sensitive or some, and a slow one that begins late because those before it could not leave."""
    tiles, rng = 9, np.random.default_rng(3)
    assert cycles.drain(config, Kind.CONV, False) > config.rows
    for share in (0, 0.05, 0.3):
        masks = rng.random((2, tiles, config.rows, config.word)) < share
        masks[:, -2:] = True
        compare(config, whole(config, tiles, 1), masks)


@given(cases())
@settings(max_examples=40)
def test_images_do_not_see_each_other_and_more_is_never_faster(case):
    config, layer, masks = case
    together, everything = layer_cycles(config, layer, masks), layer_cycles(config, layer, None)
    for image in range(len(masks)):
        alone = layer_cycles(config, layer, masks[image : image + 1])
        assert (alone.total, alone.terms, alone.empty) == (together.total[image], together.terms[image], together.empty[image])
    more = layer_cycles(config, layer, masks | masks[::-1])
    assert (more.total >= together.total).all() and (more.total <= everything.total).all() and (together.empty >= 0).all()
    all_of_them = layer_cycles(config, layer, np.ones_like(masks))
    assert all((getattr(all_of_them, name) == getattr(everything, name)).all() for name in ("total", "terms", "empty"))
    ideal = ideal_cycles(config, layer, masks)
    assert (ideal <= ideal_cycles(config, layer, None)).all() and (ideal <= together.total).all()


@given(cases())
@settings(max_examples=40)
def test_ideal_is_a_cycle_per_product_and_three_more_if_sensitive(case):
    config, layer, masks = case
    masks = masks[..., : (layer.in_words - 1) * config.word + layer.in_tail]
    geometry = (layer.stride_h, layer.stride_w), (layer.pad_top, layer.pad_left), (layer.out_h, layer.out_w)
    ones = np.ones((layer.kernel_h, layer.kernel_w, masks.shape[3], layer.out_channels), dtype=int)
    products = reference.convolution(np.ones(masks.shape, dtype=int), ones, *geometry).sum(axis=(1, 2, 3))
    sensitive = reference.convolution(masks.astype(int), ones, *geometry).sum(axis=(1, 2, 3))
    elements = 2 * config.columns * config.word
    assert ideal_cycles(config, layer, masks).tolist() == [float(p + 3 * s) / elements for p, s in zip(products, sensitive)]


def whole(config, tiles, steps, channels=None):
    """A 1x1 convolution of so many tiles and steps, without padding."""
    channels = channels or steps * config.word
    return convolution(config, (1, 1), (1, 1), (0, 0), (tiles, config.rows), (tiles, config.rows), channels, config.block(False))


@pytest.mark.parametrize("sensitive", [False, True])
def test_throughput_of_equal_pixels(sensitive):
    """One pixel per cycle or per four, neither steps nor tiles leave a gap: the way in, all pixels, the way through, the capture."""
    layer = whole(SMALL, 3, 4)
    d, pixels = SLOW if sensitive else 1, 3 * 4 * SMALL.rows
    total = layer_cycles(SMALL, layer, np.full((1, 3, SMALL.rows, 4 * SMALL.word), sensitive)).total
    assert captures(SMALL, layer, total).tolist() == [3 + (pixels - 1) * d + SMALL.word * d + 1]


def test_tiles_of_one_step_follow_at_the_drain():
    layer, drain = whole(SMALL, 7, 1), cycles.drain(SMALL, Kind.CONV, False)
    assert drain == 2 * SMALL.rows
    total = layer_cycles(SMALL, layer, np.zeros((1, 7, SMALL.rows, SMALL.word), dtype=bool)).total
    assert captures(SMALL, layer, total).tolist() == [3 + SMALL.rows - 1 + SMALL.word + 1 + 6 * drain]


def test_one_row_that_is_always_slow_slows_all():
    layer, masks = whole(SMALL, 1, 4), np.zeros((1, 1, SMALL.rows, 4 * SMALL.word), dtype=bool)
    masks[..., 3 :: SMALL.word] = True
    total = layer_cycles(SMALL, layer, masks).total
    assert captures(SMALL, layer, total).tolist() == [3 + (4 * SMALL.rows - 1) * SLOW + SMALL.word - 1 + SLOW + 1]


def test_arrivals_hold_pixels_up():
    array = Array(2, 1)
    array.step(np.array([[0, 1, 2], [0, 1, 2]])[:, :, None], True, 0, [10, 20])
    assert array.captured[0].tolist() == [24] and array.held.tolist() == [4]
