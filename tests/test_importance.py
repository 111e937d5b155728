"""Scaling by importance: the network stays what it computes, and magnitudes follow what channels add to the outputs."""

import dataclasses
import functools

import numpy as np
import pytest

from compiler import importance
from compiler.network import Conv, Network, Pool
from tests import small_networks

conv = functools.partial(small_networks.conv, spread=1.0)


@pytest.fixture
def network():
    rng = np.random.default_rng(0)
    return Network(name="n", input="x", input_shape=(6, 5, 3), nodes=(
        conv(rng, "a", "x", 3, 8, relu=True), conv(rng, "b", "a", 8, 8, relu=True), conv(rng, "c", "b", 8, 8, residual="a", relu=True),
        conv(rng, "d", "c", 8, 8, depthwise=True, relu=True), Pool(name="m", input="d", kind="max", kernel=(2, 2), stride=(2, 2)),
        conv(rng, "e", "m", 8, 4), Pool(name="v", input="e", kind="avg", kernel=(3, 2), stride=(1, 1)), conv(rng, "y", "v", 4, 5, 1)))


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(size=(9, 6, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_the_network_computes_the_same(network, images, strength):
    scaled = importance.equalize(network, images, strength)
    before, after = network.run(images), scaled.run(images)
    for name in ("x", "y"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-3, atol=1e-3 * np.abs(before[name]).max())
    of = importance.classes(network)
    for one in of:
        ratio = (np.abs(after[one]).sum(axis=(0, 1, 2)) + 1e-9) / (np.abs(before[one]).sum(axis=(0, 1, 2)) + 1e-9)
        other = (np.abs(after[of[one]]).sum(axis=(0, 1, 2)) + 1e-9) / (np.abs(before[of[one]]).sum(axis=(0, 1, 2)) + 1e-9)
        np.testing.assert_allclose(ratio, other, rtol=1e-3, err_msg=one)


def test_tensors_that_are_added_or_pooled_go_together(network):
    of = importance.classes(network)
    assert of["a"] == of["c"] and of["d"] == of["m"] and of["e"] == of["v"]
    assert len({of[name] for name in "xabdey"}) == 6


def test_whole_strength_leaves_channels_that_count_alike(network, images):
    """What reads the tensor, and is not scaled itself, has one norm of weights for all channels."""
    nodes = tuple(node for node in network.nodes if node.name in "ab")
    scaled = importance.equalize(dataclasses.replace(network, nodes=nodes), images, 1.0, spread=1e6)
    norm = np.sqrt(np.square(scaled.nodes[1].weight).sum(axis=(0, 2, 3)))
    np.testing.assert_allclose(norm, norm.mean(), rtol=1e-4)


def test_a_bound_keeps_its_tensor(network, images):
    nodes = tuple(dataclasses.replace(node, clip=6.0) if node.name == "b" else node for node in network.nodes)
    clipped = dataclasses.replace(network, nodes=nodes)
    assert importance.classes(clipped)["b"] in importance.fixed(clipped)
    np.testing.assert_allclose(importance.equalize(clipped, images).run(images)["b"], clipped.run(images)["b"], rtol=1e-3, atol=1e-3)


def test_no_strength_changes_nothing(network, images):
    for old, new in zip(network.nodes, importance.equalize(network, images, 0.0).nodes):
        if isinstance(old, Conv):
            np.testing.assert_array_equal(old.weight, new.weight)
