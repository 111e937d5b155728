"""Energy: figures from the constants, sums over layers, both bases, the command."""

import dataclasses
import json
import math
import tomllib

import numpy as np
import pytest

from golden.cycles import layer_cycles
from sdp.__main__ import main
from sdp.config import NAMED
from sdp.encoding import encode
from sdp.program import End, Kind, Layer, Load, Opcode, Store
from sim import programs
from sim.random_layer import build, draw
from synth.area import UNITS
from synth.energy import ARRAY_UNITS, BASES, CONSTANTS, PARTS, Bounded, Constants, EnergyError, energy, report, total

TINY = NAMED["tiny"]
SMALL = dataclasses.replace(NAMED["small"], weight_words=1024)  # a depth that the table of constants has
TABLE = tomllib.loads(CONSTANTS.read_text())
close = pytest.approx


def conv(**more):
    """A 3x3 convolution of 32 channels on 8x8 pixels, 16 of them per word of `small`: 4 tiles per block of 8 channels in w8."""
    return Layer(**{"kind": Kind.CONV, "in_base": 0, "in_plane": 64, "in_h": 8, "in_w": 8, "in_words": 2, "in_tail": 16, "out_base": 2048, "out_plane": 64,
                    "out_h": 8, "out_w": 8, "out_channels": 32, "kernel_h": 3, "kernel_w": 3, "pad_top": 1, "pad_left": 1, "budget": 4, "tag": "c"} | more)


def test_every_constant_has_a_unit_a_source_and_bounds():
    entries = [*TABLE["sram"].values(), *TABLE["pe"].values(), TABLE["dram"], TABLE["measured"]]
    assert all(entry["unit"] and entry["source"] and entry["low"] <= entry.get("value", 1) <= entry["high"] for entry in entries)
    for entry in TABLE["sram"].values():
        assert len(entry["words"]) == len(entry["read"]) == len(entry["write"]) and entry["words"] == sorted(entry["words"])
    assert set(ARRAY_UNITS) <= set(UNITS.values())


def test_bounds():
    a, b = Bounded(2, 1, 4), Bounded(10, 5, 20)
    assert a + b == Bounded(12, 6, 24) and a * b == Bounded(20, 5, 80) and a * 3 == Bounded(6, 3, 12)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("access", ["read", "write"])
def test_memories_between_and_beyond_the_points(basis, access):
    entry, figures = TABLE["sram"][basis], Constants(basis)
    for words, value in zip(entry["words"], entry[access]):
        found = figures.sram(words, access)
        assert (found.value, found.low, found.high) == close((value, value * entry["low"], value * entry["high"]))
    (w0, w1), (e0, e1) = entry["words"][-2:], entry[access][-2:]
    assert figures.sram(w1 * w1 // w0, access).value == close(e1 * e1 / e0)  # as much again, by the same slope
    middle = figures.sram((w0 + w1) // 2, access).value
    assert math.log(middle / e0) / math.log(e1 / e0) == close(math.log(1.5) / math.log(2))
    assert figures.sram(1, access) == figures.sram(entry["words"][0], access)


def test_scaling_from_node_to_node():
    energy_130, energy_45 = 7.171 * 1.2**2 - 6.709 * 1.2 + 2.904, 1.018 - 0.3107 + 0.1539
    library, published = Constants("library"), Constants("published")
    assert library.scale.value == close(energy_130 / energy_45) and library.scale.low < library.scale.value < library.scale.high
    assert library.element(4).value == close(0.120 * library.scale.value) and published.element(4) == Bounded(0.120, 0.082, 0.29)
    assert library.dram() == published.dram()


def test_a_layer_by_hand():
    """Reads, writes and beats counted on paper, times the figures of the file."""
    layer, figures = conv(residual=True, residual_base=2048 + 256), Constants("published")
    load = Load(opcode=Opcode.LOAD_WEIGHTS, address=0, data=np.zeros((72, SMALL.weight_beats * SMALL.word), dtype=np.uint8))
    [row] = energy(SMALL, [[load, layer, Store(address=2048, count=128, tail=16), End()]], figures)
    # 8 + 8 + 6 of 8 rows lie inside for the three taps of an axis, so 22 * 22 words; 2 words each, 4 blocks. Residual: 64 pixels x 4 parts of 8 codes.
    reads, parts = 4 * 2 * 22 * 22 + 64 * 4 + 128, 64 * 4
    bank, deep, scale = TABLE["sram"]["published"]["words"].index(512), TABLE["sram"]["published"]["words"].index(1024), 2
    read, write = TABLE["sram"]["published"]["read"], TABLE["sram"]["published"]["write"]
    assert row.parts["activations"].value == close(reads * 128 * read[bank] + parts * 64 * write[bank])
    # 4 blocks of 8 tiles of 18 steps; 72 words are loaded, 10 beats each.
    assert row.parts["weights"].value == close(4 * 8 * 18 * 1280 * read[deep] + 72 * 1280 * write[deep])
    assert row.parts["scales"].value == close(4 * 8 * 8 * 384 * read[scale])
    # Load 3 words and layer 16 words of header in beats of 4 words, store 4, end 1.
    assert row.parts["dram"] == Bounded(15.0, 3.9, 40.6) * ((1 + 720 + 4 + 1 + 1 + 128) * 128)
    assert row.parts["array"] == Bounded(0.120, 0.082, 0.29) * (4 * 8 * 18 * 4 * 256)
    assert row.name == "c" and row.kind == "conv" and row.cycles == layer_cycles(SMALL, layer).total
    assert row.total.value == close(sum(row.parts[part].value for part in PARTS))


def test_the_channel_unit_counts_as_8_bit_elements():
    layer = conv(kind=Kind.DEPTHWISE, in_words=1, out_channels=16, budget=1)
    [row] = energy(SMALL, [[layer, End()]], Constants("published"))
    assert row.parts["array"].value == close(0.298 * 64 * 9 * 16)


def test_parts_of_a_layer_are_one_row_and_fewer_terms_cost_less():
    figures = Constants("published")
    rows = energy(SMALL, [[conv(), End()], [conv(tag="d"), conv(), End()]], figures)
    assert [row.name for row in rows] == ["c", "d"]
    assert rows[0].parts["array"].value == close(2 * rows[1].parts["array"].value) and rows[0].cycles == 2 * rows[1].cycles
    assert total(rows).total.value == close(sum(row.total.value for row in rows)) and total(rows).traffic == rows[0].traffic + rows[1].traffic
    two, sixteen = (energy(SMALL, [[conv(budget=budget), End()]], figures)[0].parts for budget in (2, 16))
    assert sixteen["array"].value == close(8 * two["array"].value)
    assert all(sixteen[part] == two[part] for part in PARTS if part != "array")


POWER = {"pj_per_cycle": {"4": {"processing elements": 30.0, "term selectors": 10.0, "drain": 99.0}, "8": {"processing elements": 50.0}}}


def test_measured_power():
    by_unit = {"pj_per_cycle": {"processing elements": {"4": 30.0, "8": 50.0}, "term selectors": {"4": 10.0}, "drain": {"4": 99.0}}}
    for power in (POWER, by_unit):
        figures = Constants("library", power)
        for budget, pj in ((4, 40.0), (8, 50.0), (6, 45.0), (1, 40.0), (16, 50.0)):
            layer = conv(budget=budget)
            assert figures.array(SMALL, layer).value == close(pj * layer_cycles(SMALL, layer).total)
        assert "measured" in figures.array_source and figures.measured == {4: 40.0, 8: 50.0}
        assert figures.array(SMALL, conv()).low < figures.array(SMALL, conv()).value < figures.array(SMALL, conv()).high
    # What was published and what was measured at another node are never mixed.
    assert Constants("published", POWER).array(SMALL, conv()) == Constants("published").array(SMALL, conv())
    assert "published" in Constants("published", POWER).array_source and "scaled" in Constants("library").array_source
    with pytest.raises(EnergyError, match="^the power report has no budget with a unit of the array, which are term selectors"):
        Constants("library", {"pj_per_cycle": {"4": {"drain": 1.0}}})


@pytest.fixture
def file(tmp_path):
    """Setup, and a frame of two programs, as ``sdp run`` leaves them."""
    load = Load(opcode=Opcode.LOAD_SCALES, address=0, data=np.zeros((5, TINY.scale_beats * TINY.word), dtype=np.uint8))
    frames = [build(TINY, [draw(TINY, 1), draw(TINY, 2)]), build(TINY, [draw(TINY, 3)])]
    (tmp_path / "program.bin").write_bytes(programs.pack([encode(TINY, program) for program in ([load, End()], *frames)]))
    (tmp_path / "report.json").write_text(json.dumps({"program_layers": ["one", "two", "one"]}))
    return tmp_path, [load, End()], frames


def test_command(file, tmp_path, capsys, monkeypatch):
    folder, setup, frames = file
    monkeypatch.chdir(tmp_path)
    assert main(["energy", str(folder), "--config", "tiny"]) == 0
    text, found = capsys.readouterr().out, json.loads((folder / "energy.json").read_text())
    assert found["config"] == "tiny" and set(found["bases"]) == set(BASES)
    expected = report(TINY, setup, frames)
    for basis, entry in found["bases"].items():
        assert [row["name"] for row in entry["layers"]] == ["one", "two"]
        assert entry["total"]["pj_total"]["value"] == close(sum(row["pj"][part]["value"] for row in entry["layers"] for part in PARTS))
        assert entry["total"]["traffic"] == expected["bases"][basis]["total"]["traffic"] and entry["setup"] == expected["bases"][basis]["setup"]
        assert f"{basis}: {entry['total']['pj_total']['value'] / 1e6:.2f} uJ per inference" in text
    assert found["bits"]["dram"] == [8 * sum(len(encode(TINY, p)) for p in frames), 8 * TINY.word * found["bases"]["library"]["total"]["traffic"]["beats_out"]]
    assert "published 4-bit element" in text and "setup, once" in text and f"made {folder / 'energy.json'}" in text.replace("\n", "")
    (folder / "power.json").write_text(json.dumps(POWER))
    assert main(["energy", str(folder), "--config", "tiny", "--power", str(folder / "power.json")]) == 0
    assert "measured on our netlist at budgets of 4, 8" in capsys.readouterr().out
    assert main(["energy", str(folder), "--config", "tiny", "--power", "nowhere.json"]) == 1
    assert capsys.readouterr().err == "sdp energy: --power: there is no file nowhere.json\n"


def test_a_file_without_a_layer(tmp_path, capsys):
    (tmp_path / "p.bin").write_bytes(encode(TINY, [End()]))
    assert main(["energy", str(tmp_path / "p.bin"), "--config", "tiny"]) == 1
    assert "has no layer" in capsys.readouterr().err
