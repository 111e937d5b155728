"""Configurations: every field's limits, what depends on several fields, TOML files."""

import dataclasses

import pytest

from sdp.arrays import ARRAYS
from sdp.config import BASELINES, CONFIGS, NAMED, VARIANTS, Config, ConfigError, load
from tests.sizes import UNIT

LIMITS = {
    "group": (2, 32), "lanes": (1, 32), "rows": (1, 64), "columns": (1, 64), "ports": (1, 16), "outputs": (1, 64), "reduction": (1, 65536),
    "activation_words": (16, 1 << 20), "weight_words": (2, 1 << 16), "scale_words": (2, 1 << 16), "scale_bits": (8, 31), "log_layers": (1, 256),
}


def test_limits_cover_every_field():
    assert {*LIMITS, "name", "array"} == {f.name for f in dataclasses.fields(Config)}


@pytest.mark.parametrize("field, value", [
    (field, value) for field, (low, high) in LIMITS.items() for value in (low - 1, high + 1, -1, 2.0, "8", None, True)])
def test_out_of_range(field, value):
    low, high = LIMITS[field]
    with pytest.raises(ConfigError, match=rf"^configuration 'x': {field} = {value!r}, but must be an integer from {low} to {high}$"):
        Config(name="x", **{field: value})


def test_limits_themselves_are_allowed():
    small = Config(name="s", group=2, lanes=2, rows=1, columns=1, ports=1, outputs=1, reduction=4, activation_words=16, weight_words=2,
                   scale_words=2, scale_bits=8, log_layers=1)
    assert small.word == 4 and small.steps_max == 1
    large = Config(name="l", group=32, lanes=32, rows=64, columns=64, ports=16, outputs=64, reduction=65536, activation_words=1 << 20,
                   weight_words=1 << 16, scale_words=1 << 16, scale_bits=31, log_layers=256)
    assert large.word == 1024 and large.accumulator_bits == (255 * 15 * 65536).bit_length() + 1 == 29


@pytest.mark.parametrize("changes, message", [
    ({"name": ""}, r"name = '', but must be letters, digits, '-' and '_'"),
    ({"name": "a b"}, r"name = 'a b', but must be letters, digits, '-' and '_'"),
    ({"name": 3}, r"name = 3, but must be letters, digits, '-' and '_'"),
    ({"array": "int5"}, r"array = 'int5', but must be one of sdp, sdp-plain, int4, int8, int16, drq"),
    ({"array": 4}, r"array = 4, but must be one of sdp, sdp-plain, int4, int8, int16, drq"),
    ({"ports": 3, "rows": 6}, r"ports = 3, but must be a power of two"),
    ({"activation_words": 1000}, r"activation_words = 1000, but must be a power of two"),
    ({"log_layers": 12}, r"log_layers = 12, but must be a power of two"),
    ({"rows": 6}, r"ports = 4, but must be a divisor of rows = 6"),
    ({"lanes": 1, "group": 5, "outputs": 1}, r"lanes = 1, but must be such that lanes \* group is a multiple of 4 \(group = 5\)"),
    ({"outputs": 3}, r"outputs = 3, but must be a divisor of columns = 8"),
    ({"columns": 6, "outputs": 6}, r"outputs = 6, but must be a divisor of lanes \* group = 16"),
    ({"rows": 16, "ports": 8, "activation_words": 16}, r"activation_words = 16, but must be at least 4 \* ports = 32"),
    ({"reduction": 2305}, r"reduction = 2305, but must be a multiple of lanes \* group = 16"),
])
def test_fields_that_depend_on_others(changes, message):
    with pytest.raises(ConfigError, match=rf"^configuration {changes.get('name', 'x')!r}: {message}$"):
        Config(**{"name": "x", **changes})


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        NAMED["small"].rows = 4


def test_sizes():
    c = UNIT
    assert (c.word, c.stream_bits, c.header_words, c.nibble_multipliers, c.steps_max) == (12, 96, 3, 6 * 5 * 3 * 2, 128)
    assert (c.weight_bits, c.weight_beats, c.scale_word_bits, c.scale_beats) == (5 * 12 * 10, 7, 50, 1)
    assert (c.block(False), c.block(True)) == (5, 10)
    assert c.memory_bits() == {"activations": 1024 * 96, "weights": 160 * 600, "scales": 128 * 50, "layer log": 8 * 128}


LARGEST = {"sdp": 255 * 15, "sdp-plain": 255 * 8, "int4": 255 * 15, "int8": 255 * 128, "int16": None, "drq": 255 * (8 * 16 + 8)}
"""Of a code and what one sum takes of a weight: a digit, a nibble, all of it. ``int16`` has 32 bits whatever it needs."""


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_accumulators_hold_the_largest_sum_and_are_no_wider_than_needed(config):
    largest = (LARGEST[config.array] or 255 * 128) * config.reduction
    assert largest < 1 << config.accumulator_bits - 1
    assert config.accumulator_bits == 32 if config.array == "int16" else 1 << config.accumulator_bits - 1 <= 2 * largest
    assert load(config.name) is config


def test_every_array_has_a_configuration_as_large_as_small():
    small = NAMED["small"]
    assert {c.array for c in CONFIGS.values()} == set(ARRAYS) == set(LARGEST)
    for config in (VARIANTS | BASELINES).values():
        assert config.memory_bits() == small.memory_bits() and config.nibble_multipliers == small.nibble_multipliers == 256
        assert (config.word, config.reduction, config.scale_bits) == (small.word, small.reduction, small.scale_bits)


@pytest.mark.parametrize("array, multipliers, blocks, budgets", [
    ("sdp", 6 * 5 * 3 * 2, (5, 10), set(range(1, 9))), ("sdp-plain", 6 * 5 * 3 * 2, (5, 10), set(range(1, 9))),
    ("int4", 6 * 5 * 3 * 2, (5, 10), {4, 8}), ("int8", 6 * 5 * 3 * 4, (5, 5), {4}),
    ("int16", 6 * 5 * 3 * 16, (5, 5), {4}), ("drq", 12 * 10, (10, 10), set(range(1, 9)))])
def test_what_depends_on_the_array(array, multipliers, blocks, budgets):
    config = dataclasses.replace(UNIT, array=array)
    assert config.nibble_multipliers == multipliers and tuple(map(config.block, (False, True))) == blocks
    assert set(config.array_kind.budgets(config.group)) == budgets


def test_plain_digits_are_what_small_has_but_for_a_bit():
    """Two bits less in a slot and one in a sum; the memory has as many bits, so a quarter more words."""
    plain, small = VARIANTS["small-plain"], NAMED["small"]
    assert dataclasses.replace(plain, name="small", array="sdp", weight_words=1280) == small
    assert (plain.slot_bits, plain.accumulator_bits) == (small.slot_bits - 2, small.accumulator_bits - 1)


def test_toml(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("rows = 4\nscale_bits = 20\n")
    assert load(str(path)) == Config(name="mine", rows=4, scale_bits=20)
    path.write_text("name = 'other'\n")
    assert load(str(path)).name == "other"
    path.write_text("\n".join(f"{k} = {v!r}" for k, v in NAMED["tiny"].parameters().items()))
    assert load(str(path)) == NAMED["tiny"]


@pytest.mark.parametrize("text, message", [
    ("rows = ", r"^configuration file .*bad\.toml: Invalid value"),
    ("rwos = 4", r"^configuration file .*bad\.toml: unknown field 'rwos'; fields are activation_words, .*, weight_words$"),
    ("rows = 0", r"^configuration 'bad': rows = 0, but must be an integer from 1 to 64$"),
    ("rows = '8'", r"^configuration 'bad': rows = '8', but must be an integer from 1 to 64$"),
])
def test_bad_toml(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(str(path))


def test_unreadable(tmp_path):
    with pytest.raises(ConfigError, match=r"^configuration file .*absent\.toml: .*No such file"):
        load(str(tmp_path / "absent.toml"))
    (tmp_path / "latin.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match=r"^configuration file .*latin\.toml: 'utf-8' codec"):
        load(str(tmp_path / "latin.toml"))
    assert [*CONFIGS] == [*NAMED, "small-plain", "int4-small", "int8-small", "int16-small", "drq-small"]
    with pytest.raises(ConfigError, match=rf"^configuration 'huge' is neither one of {', '.join(CONFIGS)} nor a \.toml file$"):
        load("huge")
