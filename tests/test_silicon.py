"""The silicon report holds what was measured, and names the command for what was not."""

import json

from synth import silicon
from synth.silicon import SHOWN


def area(total, unit="um2"):
    return {"unit": unit, "nibble_multipliers": 256, "total": total, "memory_bits": 8192 * 3, "array": total / 2, "array_per_nibble_multiplier": 4321.0,
            "selector_share_of_array": 0.0625, "dense_int4_per_multiplier": 3000.0, "ratio_to_dense_int4": 1.44, "library": "some_library", "yosys": "Yosys 9",
            "abc": "map", "amaranth": "0.5", "units": [{"name": "processing elements", "instances": 64, "flip_flops": 7, "combinational": 10.0, "sequential": 20.0,
                                                         "area": total / 4, "share": 0.25}]}


def put(folder, name, what, report):
    (folder / name).mkdir(exist_ok=True)
    (folder / name / f"{what}.json").write_text(json.dumps(report))


def test_nothing_was_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "silicon.md").write_text("what was measured elsewhere")
    assert silicon.main([]) == 1
    assert capsys.readouterr().err == (
        "silicon: nothing was measured: there is no report under build; the first one comes from make area CONFIG=tiny LIBERTY=...\n")
    assert (tmp_path / "docs" / "silicon.md").read_text() == "what was measured elsewhere"


def test_what_is_missing_is_named(tmp_path):
    put(tmp_path, "small", "area", area(2e6))
    missing = silicon.write(tmp_path, tmp_path / "silicon.md")
    text = (tmp_path / "silicon.md").read_text()
    assert missing[: len(SHOWN) - 1] == [f"make area CONFIG={name} LIBERTY=..." for name in SHOWN if name != "small"] and "make sweep LIBERTY=..." in missing
    assert "make timing CONFIG=small-plain LIBERTY=..." in missing
    assert text.count("Not measured in this state") == 7 and all(f"`{command}`" in text for command in missing)


def test_what_was_measured_is_there(tmp_path):
    put(tmp_path, "small", "area", area(2e6))
    put(tmp_path, "tiny", "area", area(1e6, "NAND2"))  # without a library: does not count
    missing = silicon.write(tmp_path, tmp_path / "silicon.md")
    text = (tmp_path / "silicon.md").read_text()
    assert "make area CONFIG=tiny LIBERTY=..." in missing and "make area CONFIG=small LIBERTY=..." not in missing
    assert "| small | 256 | 2.000 | 3 | 50% | 4,321 | 6.2% | 3,000 | 1.44 |" in text and "| tiny |" not in text
    assert "| processing elements | 64 | 7 | 10 | 20 | 500,000 | 25.0% |" in text and "* library: some_library" in text


def test_what_is_not_measured_may_be_kept(tmp_path):
    """Elsewhere measured: area and timing. Here: area again. Its section is new, that of timing and its tool stay, the rest is of neither."""
    document, elsewhere, here = tmp_path / "silicon.md", tmp_path / "elsewhere", tmp_path / "here"
    for folder in (elsewhere, here):
        folder.mkdir()
    for name in SHOWN:
        put(elsewhere, name, "area", area(2e6))
        put(here, name, "area", area(4e6))
    silicon.write(elsewhere, document)
    lines = document.read_text()
    document.write_text(lines.replace("## Timing\n", "## Timing\nsome nanoseconds\n").replace("* amaranth:", "* sta: OpenSTA 1\n* amaranth:"))
    silicon.write(here, document, keep=True)
    text = document.read_text()
    assert "some nanoseconds" in text and text.count("* sta: OpenSTA 1") == text.count("* amaranth: 0.5") == 1
    assert "| 4.000 |" in text and "| 2.000 |" not in text
    assert [line for line in text.splitlines() if line.startswith("#")] == [line for line in lines.splitlines() if line.startswith("#")]
    silicon.write(here, document)
    assert "some nanoseconds" not in document.read_text() and "OpenSTA 1" not in document.read_text()


def test_searched_mixtures_are_there(tmp_path):
    row = {"configuration": "g8", "cycles": 123_456, "area": 2e6, "array_to_dense": 1.5, "energy_nj": 2345.0, "expected_loss": 0.5, "expected_error": 0.125,
           "accuracy": 91.25}
    (tmp_path / "sweep").mkdir()
    put(tmp_path / "sweep", "groups", "summary", {"area_unit": "um2", "networks": {"net": {"shipped": {}, "searched": [row, row | {"area": None}]}}})
    missing = silicon.write(tmp_path, tmp_path / "silicon.md")
    assert (tmp_path / "silicon.md").read_text().count("| net | g8 |") == 1
    assert "| net | g8 | 123,456 | 2,000,000 | 1.50 | 246.9 | 2.35 | 0.50 +- 0.12 | 91.25 |" in (tmp_path / "silicon.md").read_text()
    assert not any("groups" in command for command in missing) and "make sweep LIBERTY=..." in missing


def test_the_fpga(tmp_path):
    put(tmp_path, "tiny", "fpga", {"part": "LFE5U-85F", "resources": {"LUTs": {"used": 7000, "available": 9000}}, "spacers": 1234, "fmax_mhz": 12.5,
                                   "seconds": {"synthesis": 100.0, "routing": 140.0}, "nextpnr": "nextpnr-9", "seed": 1})
    missing = silicon.write(tmp_path, tmp_path / "silicon.md")
    text = (tmp_path / "silicon.md").read_text()
    assert "| tiny | LFE5U-85F | 7,000 of 9,000 | 1,234 | 12.5 | 4 |" in text and "make fpga CONFIG=small" in missing and "* nextpnr: nextpnr-9" in text



def test_unwritable(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "build", "x", {})
    put(tmp_path / "build", "small", "area", area(2e6))
    (tmp_path / "docs").write_text("")
    assert silicon.main([]) == 1
    assert capsys.readouterr().err == "silicon: cannot write docs: File exists\n"


def test_what_changed_since_the_sweep_is_marked():
    shipped = {"small": {"area": 2.0e6}, "medium": {"area": 6.0e6}, "absent": {"area": 1.0}}
    sweep = {"area_unit": "um2", "networks": {"n": {"shipped": shipped}}}
    silicon.stale(sweep, {"small": area(2.003e6), "medium": area(4.3e6)})
    assert {name: row["changed"] for name, row in shipped.items()} == {"small": False, "medium": True, "absent": False}
    silicon.stale(sweep | {"area_unit": "NAND2"}, {"medium": area(4.3e6)})
    assert not shipped["medium"]["changed"]


def test_power_of_every_network_is_there(tmp_path):
    def report(network):
        return {"config": {"name": "small"}, "network": network, "layers": ["a"], "cycles": 7, "gates": 9, "flip_flops": 3, "differences": 0, "clock_mhz": 100.0,
                **{key: {"1": {"term selectors": 2.5}} for key in ("pj_per_cycle", "pj_per_cycle_without_glitches", "mw")}, "pj_per_mac": {"w4": {"1": 0.5}},
                "cross_check": {"part": "p", "gates": 2, "opensta_mw": {"x": 1.0}, "ours_mw": {"x": 1.25}, "difference_of_total": 0.25}}

    put(tmp_path, "small", "power-net", report("net"))
    silicon.write(tmp_path, tmp_path / "silicon.md")
    assert "`small`, net, layers a: 7 cycles" in (tmp_path / "silicon.md").read_text()
    put(tmp_path, "small", "power", report("digits"))
    silicon.write(tmp_path, tmp_path / "silicon.md")
    text = (tmp_path / "silicon.md").read_text()
    assert text.count("| term selectors | 2.5 |") == 2 and text.index("`small`, digits, layers a: 7 cycles") < text.index("`small`, net, layers a: 7 cycles")
