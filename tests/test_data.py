"""Data for ``sdp run``: layouts, preprocessing, and a sentence for everything that can be wrong with a file."""

import numpy as np
import pytest

from sim.data import NAMED, Data, DataError, Preprocess, load, overlap, preprocessing

SHAPE = (4, 5, 3)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def images(count=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def test_layouts_are_recognised(tmp_path):
    x = images()
    for stored in (x, np.moveaxis(x, 3, 1).astype(np.float32)):
        found = load(save(tmp_path / "a.npz", x=stored), SHAPE)
        np.testing.assert_array_equal(found.images, x)
        assert found.images.dtype == np.float32 and found.labels is None


def test_one_channel_may_be_left_out(tmp_path):
    x = images()[..., 0]
    assert load(save(tmp_path / "a.npz", x=x), (4, 5, 1)).images.shape == (6, 4, 5, 1)


@pytest.mark.parametrize("kind, same", [(np.uint8, True), (np.float32, False)])
def test_cubes_are_taken_by_their_type(tmp_path, kind, same):
    x = np.arange(27).reshape(1, 3, 3, 3).astype(kind)
    found = load(save(tmp_path / "a.npz", x=x), (3, 3, 3)).images
    assert np.array_equal(found, x if same else np.moveaxis(x, 1, 3))


def test_named_preprocessing_of_cifar10(tmp_path):
    x = images()
    found = load(save(tmp_path / "a.npz", x=x), SHAPE, NAMED["cifar10-resnet20"]).images
    np.testing.assert_allclose(found, (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("text, wanted", [
    ("none", Preprocess()), ("raw", Preprocess()), ("scale=1/255", Preprocess(1 / 255)),
    ("mean=.5,.25,0 std=2", Preprocess(1.0, (0.5, 0.25, 0.0), (2.0,))),
])
def test_preprocessing_is_read(text, wanted):
    assert preprocessing(text) == wanted


@pytest.mark.parametrize("text", ["cifar", "mean=", "mean=a", "gain=2", "std=0", "scale=1,2", "scale=1/0"])
def test_preprocessing_that_makes_no_sense(text):
    with pytest.raises(DataError, match="^preprocess: "):
        preprocessing(text)


def test_mean_for_another_number_of_channels(tmp_path):
    with pytest.raises(DataError, match="^preprocess: mean has 2 values, the network's input has 3 channels$"):
        load(save(tmp_path / "a.npz", x=images()), SHAPE, preprocessing("mean=1,2"))


@pytest.mark.parametrize("arrays, message", [
    ({"x": images(), "y": np.full(6, 10)}, "labels reach from 10 to 10, the network has classes 0 ... 9$"),
    ({"x": images(), "y": np.arange(5)}, r"y is of shape \(5,\), but must be \(6,\), one label per image$"),
    ({"x": images(), "y": np.full(6, 0.5)}, "y must hold whole numbers, but is float64$"),
    ({"x": images()[:, :3], "y": np.zeros(6)}, r"x is of shape \(6, 3, 5, 3\), the network's input wants \(n, 4, 5, 3\) or \(n, 3, 4, 5\)$"),
    ({"x": images(0), "y": np.zeros(0)}, "there are no images in it$"),
    ({"x": images()}, "has no array 'y', only x$"),
    ({"image": images()}, "has no array 'x' and 'y', only image$"),
    ({"x": np.where(images() >= 0, np.nan, 1.0), "y": np.zeros(6)}, "x holds NaN or infinite values, first in image 0$"),
    ({"x": images().astype(str), "y": np.zeros(6)}, "x has elements of type <U3, but must be integers or floats$"),
])
def test_what_is_wrong_is_said(tmp_path, arrays, message):
    with pytest.raises(DataError, match="^test data 'a.npz': " + message):
        load(save(tmp_path / "a.npz", **arrays), SHAPE, classes=10, what="test data")


def test_files_that_are_none(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        load(tmp_path / "a.npz", SHAPE)
    (tmp_path / "a.npz").write_text("not a zip")
    with pytest.raises(DataError, match="is no npz file that can be read$"):
        load(tmp_path / "a.npz", SHAPE)
    np.save(tmp_path / "a.npy", images())
    with pytest.raises(DataError, match="is a single array, but must be an npz with x$"):
        load(tmp_path / "a.npy", SHAPE)


def test_only_the_first_images_and_their_labels(tmp_path):
    found = load(save(tmp_path / "a.npz", x=images(), y=np.arange(6)), SHAPE, classes=6, limit=4)
    assert len(found) == 4 and list(found.labels) == [0, 1, 2, 3]


def test_overlap_of_test_and_calibration_data():
    x = images().astype(np.float32)
    assert overlap(Data(x, None), Data(x[2:4], None)) == 2
    assert overlap(Data(x, None), Data(x + 1, None)) == 0
