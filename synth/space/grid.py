"""The grid of a sweep: a TOML file, checked, and the configurations that it asks for."""

import dataclasses
import itertools
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

from sdp import UserError
from sdp.arrays import ARRAYS
from sdp.config import NAMED, VARIANTS, Config, ConfigError, load
from sim.data import DataError, preprocessing

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.onnx"
AXES = tuple(field.name for field in dataclasses.fields(Config) if field.name != "name")
TERMS = tuple(name for name, array in ARRAYS.items() if array.terms)
SHIPPED = NAMED | VARIANTS
REQUIRED = ("group", "lanes", "rows", "columns")
WEIGHTS = {"w4": True, "w8": False}
SEARCHED = "searched"


class GridError(UserError, ValueError):
    """A grid that cannot be swept; one sentence."""


@dataclass(frozen=True)
class Source:
    """A network and its images. Without ``test``: the digits of the repository. Paths are absolute: workers may run elsewhere."""

    name: str
    model: str
    test: str | None = None
    calibration: str | None = None
    preprocess: str = "none"

    @property
    def files(self) -> list[str]:
        return [path for path in (self.model, self.test, self.calibration) if path]


@dataclass(frozen=True)
class Candidate:
    """A configuration of the grid, or why it cannot exist. ``series``: grid, shipped, or one of the scaling experiment."""

    series: str
    name: str
    fields: dict[str, int | str]
    config: Config | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is swept.

    Attributes
    ----------
    axes : values by field of ``Config``; the other fields are derived, see :func:`derive`
    shipped : named configurations that are measured beside the grid
    budgets : whole numbers are terms of a group, fractions up to 1.0 the share of its ``2 * group`` terms; ``searched``: the compiler's mixture
    weights : of w4, w8: digits of all layers but the first and the last one
    images : of each test set; 0: no accuracies
    calibration : images that networks are fitted to and anything is chosen by
    max_loss : points of accuracy, estimated on calibration images, that may be lost beyond exact 8 bit to be called good
    area : whether areas are measured
    scaling : network, budget, weights, doublings of the scaling experiment; none without it
    """

    name: str
    base: Config
    axes: dict[str, list[int | str]]
    networks: list[Source]
    shipped: list[str]
    budgets: list[int | float | str]
    weights: list[str]
    images: int
    calibration: int
    max_loss: float
    area: bool
    liberty: Path | None
    scaling: dict | None

    def candidates(self) -> list[Candidate]:
        """Grid and shipped ones; a point of the grid that is a shipped one goes by its name and is there once."""
        found = {_sizes(SHIPPED[name]): Candidate("shipped", name, _fields(SHIPPED[name]), SHIPPED[name]) for name in self.shipped}
        others = []
        for values in itertools.product(*self.axes.values()):
            made = candidate("grid", self.base, dict(zip(self.axes, values)))
            if made.config is None:
                others.append(made)
            else:
                found.setdefault(_sizes(made.config), made)
        return [*found.values(), *others]


def derive(base: Config, **fields: int | str) -> dict[str, int | str]:
    """All fields of a configuration of which some are given. The rule for the others, which the shipped ones keep but for their memories:

    ``ports`` grow with the rows, so that reading a step takes as long as in ``base`` (the largest power of two that divides ``rows``);
    ``outputs`` as many as allowed, ``gcd(columns, lanes * group)``; memories keep their bits, ``reduction`` its codes, rounded up to a word.
    """
    made = _fields(base) | fields
    if {"rows", "ports"} & fields.keys() == {"rows"}:
        most = max(1, min(16, made["rows"] * base.ports // base.rows))
        made["ports"] = max(p for p in (1, 2, 4, 8, 16) if p <= most and made["rows"] % p == 0)
    word = made["lanes"] * made["group"]
    if "outputs" not in fields:
        made["outputs"] = math.gcd(made["columns"], word)
    rules = {
        "activation_words": max(4 * made["ports"], 1 << math.ceil(math.log2(base.activation_words * base.word / word))),
        "weight_words": max(2, base.weight_words * base.weight_bits // (made["columns"] * word * ARRAYS[made["array"]].slot_bits)),
        "scale_words": max(2, base.scale_words * base.outputs // made["outputs"]),
        "reduction": -(-base.reduction // word) * word,
    }
    return made | {name: value for name, value in rules.items() if name not in fields}


def candidate(series: str, base: Config, fields: dict[str, int | str], suffix: str = "") -> Candidate:
    made = derive(base, **fields)
    more = [value if name == "array" else f"{name}{value}" for name, value in fields.items() if name not in REQUIRED]
    name = "-".join([f"g{made['group']}-l{made['lanes']}-{made['rows']}x{made['columns']}", *more]).replace("_", "-") + suffix
    try:
        return Candidate(series, name, made, Config(name=name, **made))
    except ConfigError as error:
        return Candidate(series, name, made, None, str(error))


SERIES = {
    "rows": ("rows", ()), "columns": ("columns", ()),
    "rows, ports kept": ("rows", ("ports",)), "columns, outputs kept": ("columns", ("outputs",)),
}
"""The scaling experiment: what doubles, and which means of the memories stay what they are in ``base``."""


def series(base: Config, doublings: int) -> list[Candidate]:
    found = []
    for name, (axis, kept) in SERIES.items():
        for factor in (1 << n for n in range(doublings + 1)):
            fields = {axis: getattr(base, axis) * factor} | {field: getattr(base, field) for field in kept}
            found.append(candidate(name, base, fields))
    return found


def terms(budget: int | float, group: int) -> int:
    """Terms of a group.

    Raises
    ------
    GridError
        A share that is no whole number, or more terms than there are.
    """
    count = budget if isinstance(budget, int) else budget * 2 * group
    if count != int(count):
        raise GridError(f"budget {budget} of {2 * group} terms is {count:g}, no whole number")
    if count > 2 * group:
        raise GridError(f"budget {budget} is more than the {2 * group} terms of a group of {group}")
    return int(count)


def _fields(config: Config) -> dict[str, int | str]:
    return {name: getattr(config, name) for name in AXES}


def _sizes(config: Config) -> tuple:
    return tuple(_fields(config).values())


def read(path: str | Path, base: Config, liberty: str | Path | None = None) -> Grid:
    """The grid in a file. ``base``, ``liberty``: where the file says nothing, and where it says otherwise.

    Raises
    ------
    GridError
        Whatever is wrong with it: what, and what is allowed.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise GridError(f"grid {path}: {error}") from None
    where = f"grid {path.name}"

    def check(condition, text):
        if not condition:
            raise GridError(f"{where}: {text}")

    def known(keys, allowed, what):
        for name in keys:
            check(name in allowed, f"unknown {what} {name!r}; there are {', '.join(allowed)}")

    def whole(value, low=0):
        return isinstance(value, int) and not isinstance(value, bool) and value >= low

    def several(name, default, allowed, text, least=1):
        values = table.get(name, default)
        check(isinstance(values, list) and len(values) >= least, f"{name} = {values!r}, but must be a list that is not empty")
        for value in values:
            check(allowed(value), f"{name} has {value!r}, but each must be {text}")
        return list(dict.fromkeys(values))

    def one(name, default, allowed, text):
        value = table.get(name, default)
        check(allowed(value), f"{name} = {value!r}, but must be {text}")
        return value

    known(table, ("name", "base", "axes", "shipped", "budgets", "weights", "images", "calibration", "max_loss", "area", "liberty", "networks", "scaling"), "key")
    axes = one("axes", {}, lambda value: isinstance(value, dict), "a table of lists")
    known(axes, AXES, "axis")
    for name in REQUIRED:
        check(name in axes, f"there is no axis {name!r}; there must be {', '.join(REQUIRED)}")
    for name, values in axes.items():
        check(isinstance(values, list) and values, f"axis {name} = {values!r}, but must be a list that is not empty")
        for value in values:
            fits, text = (value in TERMS, f"one of {', '.join(TERMS)}") if name == "array" else (whole(value, 1), "a whole number above 0")
            check(fits, f"axis {name} has {value!r}, but each must be {text}")
    networks = [_source(entry, path.parent, where) for entry in
                one("networks", [{}], lambda v: isinstance(v, list) and all(isinstance(n, dict) for n in v), "[[networks]] tables")]
    networks = [network for network in networks if network]
    check(networks, "no network is there")
    check(len({network.name for network in networks}) == len(networks), "two networks have the same name")
    share = "a number of terms, a share of them above 0 and up to 1.0, or 'searched'"
    name = one("name", path.stem, lambda v: isinstance(v, str) and v.replace("-", "").replace("_", "").isalnum(), "letters, digits, '-' and '_'")
    try:
        base = load(table["base"]) if isinstance(table.get("base"), str) else base
    except ConfigError as error:
        raise GridError(f"{where}: {error}") from None
    weights = several("weights", ["w4", "w8"], lambda v: v in WEIGHTS, "one of w4, w8")

    def budget(value):
        return whole(value, 1) or isinstance(value, float) and 0 < value <= 1

    library = liberty or one("liberty", None, lambda v: v is None or isinstance(v, str), "a path")
    if library and not liberty:
        library = path.parent / library
    scaling = one("scaling", None, lambda v: v is None or isinstance(v, dict), "a table")
    if scaling is not None:
        known(scaling, ("network", "budget", "weights", "doublings"), "scaling key")
        scaling = {"network": networks[-1].name, "budget": 0.25, "weights": weights, "doublings": 3} | scaling
        if scaling["network"] not in [network.name for network in networks]:
            scaling["network"] = networks[0].name  # an optional one that is not there
        check(budget(scaling["budget"]), f"scaling: budget = {scaling['budget']!r}, but must be a number of terms or a share of them")
        check(isinstance(scaling["weights"], list) and scaling["weights"] and all(w in WEIGHTS for w in scaling["weights"]),
              f"scaling: weights = {scaling['weights']!r}, but must be a list of w4, w8")
        check(whole(scaling["doublings"], 1), f"scaling: doublings = {scaling['doublings']!r}, but must be a whole number above 0")
    return Grid(
        name=name, base=base, axes={axis: list(dict.fromkeys(values)) for axis, values in axes.items()}, networks=networks,
        shipped=several("shipped", list(SHIPPED), lambda v: v in SHIPPED, f"one of {', '.join(SHIPPED)}", least=0),
        budgets=several("budgets", [0.25], lambda v: v == SEARCHED or budget(v), share), weights=weights,
        images=one("images", 500, whole, "a number of images"), calibration=one("calibration", 128, lambda v: whole(v, 8), "a number of images, at least 8"),
        max_loss=float(one("max_loss", 1.0, lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0 < v <= 100, "above 0 and at most 100 points")),
        area=one("area", True, lambda v: isinstance(v, bool), "true or false"), liberty=Path(library) if library else None, scaling=scaling)


def _source(entry: dict, folder: Path, where: str) -> Source | None:
    """None for an optional network that is not there. Without a model: the digits."""
    allowed = ("name", "model", "test", "calibration", "preprocess", "optional")
    for name in entry:
        if name not in allowed:
            raise GridError(f"{where}: unknown key {name!r} of a network; there are {', '.join(allowed)}")
    if "model" not in entry:
        return Source(str(entry.get("name", "digits")), str(DIGITS))
    paths = {}
    for name in ("model", "test", "calibration"):
        if not isinstance(entry.get(name), str):
            raise GridError(f"{where}: a network with a model needs {name!r}, a path")
        paths[name] = (folder / entry[name]).resolve()
    if absent := [name for name, path in paths.items() if not path.is_file()]:
        if entry.get("optional"):
            return None
        raise GridError(f"{where}: there is no file {entry[absent[0]]}")
    try:
        preprocessing(entry.get("preprocess", "none"))
    except DataError as error:
        raise GridError(f"{where}: {error}") from None
    files = {name: str(path) for name, path in paths.items()}
    return Source(str(entry.get("name", paths["model"].stem)), preprocess=entry.get("preprocess", "none"), **files)
