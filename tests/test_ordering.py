"""Order of channels: the network stays what it computes, and the selection drops less."""

import dataclasses
import functools

import numpy as np
import pytest

from compiler import ordering
from compiler.calibration import calibrate
from compiler.importance import classes
from compiler.network import Conv, Network, Pool
from golden import term_select
from tests import small_networks

conv = functools.partial(small_networks.conv, bias=2.0)


@pytest.fixture
def network():
    """Everything that ties channels together: an addition, a depthwise convolution, pooling; 20 channels are no whole groups."""
    rng = np.random.default_rng(0)
    return Network(name="n", input="x", input_shape=(6, 5, 3), nodes=(
        conv(rng, "a", "x", 3, 16, relu=True), conv(rng, "b", "a", 16, 20, relu=True), conv(rng, "c", "b", 20, 16, residual="a", relu=True),
        conv(rng, "d", "c", 16, 16, depthwise=True, relu=True), Pool(name="m", input="d", kind="max", kernel=(2, 2), stride=(2, 2)),
        conv(rng, "e", "m", 16, 12), Pool(name="v", input="e", kind="avg", kernel=(3, 2), stride=(1, 1)), conv(rng, "y", "v", 12, 5, 1)))


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(size=(24, 6, 5, 3)).astype(np.float32)


def arranged(network, images, group=4, budget=2):
    return ordering.arrange(calibrate(network, images), budget, group)


def test_the_network_computes_the_same(network, images):
    new = arranged(network, images)
    before, after = network.run(images), new.run(images)
    np.testing.assert_allclose(after["y"], before["y"], rtol=1e-4, atol=1e-4 * np.abs(before["y"]).max())
    moved = [name for name in before if not np.allclose(before[name], after[name], atol=1e-3)]
    assert {"a", "b", "c", "d", "m"} <= set(moved) and "x" not in moved and "y" not in moved


def test_channels_that_are_tied_move_together(network, images):
    of = classes(network, depthwise=True)
    assert len({of[name] for name in "acdm"}) == 1 and len({of[name] for name in "xabey"}) == 5
    before, after = network.run(images), arranged(network, images).run(images)
    far = np.abs(before["a"][..., None] - after["a"][..., None, :]).max(axis=(0, 1, 2))
    order = far.argmin(axis=0)
    assert sorted(order) == list(range(16)) and (order != np.arange(16)).any()
    for name in "acdm":
        np.testing.assert_allclose(after[name], before[name][..., order], rtol=1e-4, atol=1e-5 * np.abs(before[name]).max())


def test_the_selection_drops_less_where_channels_are_uneven():
    """Four busy channels in one group of four: spread over the groups they all fit their budgets."""
    rng = np.random.default_rng(2)
    codes = np.zeros((500, 16), dtype=np.int16)
    codes[:, :4], codes[:, 4:] = rng.integers(17, 256, (500, 4)), rng.integers(0, 3, (500, 12))
    power = np.ones(16)
    order = ordering.exchange([(codes, power)], 2, 4)
    assert sorted(order) == list(range(16))
    assert sorted(int((group < 4).sum()) for group in order.reshape(4, 4)) == [1, 1, 1, 1]
    before, after = (np.square(values - term_select.select(values, 2, 4)[0].astype(float)).sum() for values in (codes, codes[:, order]))
    assert after < before / 20


def test_what_counts_for_nobody_may_be_dropped():
    """Of four busy channels two are read by no weight: the other two may share a group with those, but not with each other."""
    rng = np.random.default_rng(3)
    codes = np.zeros((300, 8), dtype=np.int16)
    codes[:, :4] = rng.integers(16, 256, (300, 4)) & 0xF0
    power = np.array([1, 1, 0, 0, 1, 1, 1, 1], dtype=float)
    order = ordering.exchange([(codes, power)], 1, 4)
    groups = [set(group) for group in order.reshape(2, 4)]
    assert not any({0, 1} <= group for group in groups)
    dropped = ordering.dropped(codes[:, order], power[order], 1, 4).sum()
    assert dropped <= min(ordering.dropped(codes[:, other], power[other], 1, 4).sum() for other in (rng.permutation(8) for _ in range(50)))


def test_a_tensor_of_one_group_and_the_ends_stay(network, images):
    before = [node.weight for node in network.nodes if isinstance(node, Conv)]
    after = [node.weight for node in arranged(network, images, group=32, budget=8).nodes if isinstance(node, Conv)]
    for old, new in zip(before, after):
        np.testing.assert_array_equal(old, new)


def test_integers_of_a_quantised_network_move_with_their_steps(network, images):
    def coded(node):
        if not isinstance(node, Conv):
            return node
        scale = np.abs(node.weight).max(axis=(1, 2, 3)) / 127
        weight = (np.rint(node.weight / scale[:, None, None, None]) * scale[:, None, None, None]).astype(np.float32)
        return dataclasses.replace(node, weight=weight, weight_scale=scale)

    own = dataclasses.replace(network, nodes=tuple(coded(node) for node in network.nodes))
    new = arranged(own, images)
    for old, node in zip(own.nodes, new.nodes):
        if isinstance(old, Conv):
            assert sorted(old.weight_scale) == sorted(node.weight_scale)
            found = node.weight / node.weight_scale[:, None, None, None]
            np.testing.assert_allclose(found, np.rint(found), atol=1e-3)
    np.testing.assert_allclose(new.run(images)["y"], own.run(images)["y"], rtol=1e-3, atol=1e-3 * np.abs(own.run(images)["y"]).max())


def test_the_same_input_gives_the_same_order(network, images):
    one, other = (arranged(network, images) for _ in range(2))
    for old, new in zip(one.nodes, other.nodes):
        if isinstance(old, Conv):
            np.testing.assert_array_equal(old.weight, new.weight)
