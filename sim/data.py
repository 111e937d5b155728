"""Test and calibration data: an npz with images ``x`` and labels ``y``, as the network wants them, or one sentence on what is wrong.

Integers stay what they are until here; preprocessing is ``(x * scale - mean) / std``, per channel. Layouts are recognised by the shape
of the model's input, so nobody has to say which one a file has.
"""

import zipfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from sdp import UserError

Shape = tuple[int, int, int]
"""Height, width, channels."""


class DataError(UserError, ValueError):
    """Data that cannot be used; one sentence."""


@dataclass(frozen=True)
class Preprocess:
    """``(x * scale - mean) / std``; ``mean`` and ``std`` hold one value, or one per channel."""

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def apply(self, images: np.ndarray) -> np.ndarray:
        """float32 (n, h, w, c), computed in double precision so that the order of operations does not show."""
        channels = images.shape[-1]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise DataError(f"preprocess: {name} has {len(values)} values, the network's input has {channels} channels")
        values = (images * np.float64(self.scale) - np.array(self.mean)) / np.array(self.std)
        return values.astype(np.float32)


NAMED = {
    "none": Preprocess(),
    "raw": Preprocess(),
    "cifar10-resnet20": Preprocess(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""``none`` and ``raw``: the numbers of the file, as float."""


def preprocessing(text: str) -> Preprocess:
    """A name of :data:`NAMED`, or ``scale=1/255 mean=.5,.5,.5 std=.2,.2,.2`` with any of the three."""
    if text in NAMED:
        return NAMED[text]
    values = {}
    for word in text.split():
        name, _, numbers = word.partition("=")
        try:
            values[name] = tuple(float(Fraction(number)) for number in numbers.split(","))
        except (ValueError, ZeroDivisionError):
            values[name] = ()
        if name not in ("scale", "mean", "std") or not values[name]:
            raise DataError(f"preprocess: {word!r} is none of {', '.join(NAMED)}, and not scale=, mean= or std= with numbers")
    if len(values.get("scale", (1,))) != 1 or not all(values.get("std", (1,))):
        raise DataError(f"preprocess: {text!r} must have one scale, and no std of 0")
    return Preprocess(**values | ({"scale": values["scale"][0]} if "scale" in values else {}))


@dataclass(frozen=True, eq=False)
class Data:
    """``images``: float32 (n, h, w, c), preprocessed; ``labels``: int64 (n,), or none where none were asked for."""

    images: np.ndarray
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.images)


def load(path: str | Path, shape: Shape, preprocess: Preprocess = NAMED["none"], *, classes: int | None = None, limit: int | None = None,
         what: str = "data", labels_optional: bool = False) -> Data:
    """The first ``limit`` images (all if none), and their labels if the number of ``classes`` is given.

    ``labels_optional``: a file without labels will do.

    Raises
    ------
    DataError
        A missing file, one that is no npz, missing keys, wrong shapes, no images, values that are no numbers, labels out of range.
    """
    where = f"{what} {Path(path).name!r}"
    arrays = _arrays(path, where, ("x", "y") if classes is not None else ("x",), ("y",) if labels_optional else ())
    raw = arrays["x"]
    if not len(raw):
        raise DataError(f"{where}: there are no images in it")
    if raw.dtype.kind not in "uif":
        raise DataError(f"{where}: x has elements of type {raw.dtype}, but must be integers or floats")
    images = _nhwc(raw[:limit], shape, where)
    if raw.dtype.kind == "f" and not np.isfinite(images).all():
        bad = int((~np.isfinite(images)).any(axis=(1, 2, 3)).argmax())
        raise DataError(f"{where}: x holds NaN or infinite values, first in image {bad}")
    labels = None
    if classes is not None and "y" in arrays:
        labels = _labels(arrays["y"], len(raw), classes, where)[:limit]
    return Data(preprocess.apply(images), labels)


def overlap(test: Data, calibration: Data) -> int:
    """Test images that are in the calibration data, too, value by value."""
    seen = {image.tobytes() for image in calibration.images}
    return sum(image.tobytes() in seen for image in test.images)


def _arrays(path, where, names, optional) -> dict[str, np.ndarray]:
    if not Path(path).is_file():
        raise DataError(f"{where}: there is no file {path}")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise DataError(f"{where}: is a single array, but must be an npz with {' and '.join(names)}")
        with loaded as file:
            missing = [name for name in names if name not in file and name not in optional]
            if missing:
                raise DataError(f"{where}: has no array {' and '.join(map(repr, missing))}, only {', '.join(file.files) or 'nothing'}")
            return {name: file[name] for name in names if name in file}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: is no npz file that can be read") from None


def _nhwc(raw: np.ndarray, shape: Shape, where: str) -> np.ndarray:
    height, width, channels = shape
    layouts = {(height, width, channels): "nhwc", (channels, height, width): "nchw"}
    if (height, width, channels) == (channels, height, width):
        layouts = {shape: "nhwc" if raw.dtype.kind in "ui" else "nchw"}
    if channels == 1:
        layouts[height, width] = "nhw"
    layout = layouts.get(raw.shape[1:])
    if layout is None:
        raise DataError(f"{where}: x is of shape {raw.shape}, the network's input wants (n, {height}, {width}, {channels}) "
                        f"or (n, {channels}, {height}, {width})")
    if layout == "nchw":
        return np.moveaxis(raw, 1, 3)
    return raw.reshape(len(raw), height, width, channels)


def _labels(labels: np.ndarray, count: int, classes: int, where: str) -> np.ndarray:
    if labels.shape != (count,):
        raise DataError(f"{where}: y is of shape {labels.shape}, but must be ({count},), one label per image")
    if labels.dtype.kind not in "uif" or (labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels))):
        raise DataError(f"{where}: y must hold whole numbers, but is {labels.dtype}")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{where}: labels reach from {int(labels.min())} to {int(labels.max())}, the network has classes 0 ... {classes - 1}")
    return labels.astype(np.int64)
