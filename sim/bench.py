"""Benchmarks, measured on the simulated hardware: is time linear in precision, are the multipliers used, how fast are simulations and golden model."""

import json
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from golden.cycles import layer_cycles
from golden.machine import Machine
from hw.accelerator import Accelerator
from hw.verilog import export
from sdp.config import Config
from sdp.encoding import encode
from sdp.program import Command, Layer
from sim import cocotb_runner
from sim.bench_golden import golden_speed
from sim.compare import differences
from sim.harness import Harness
from sim.random_layer import Case, build

BUDGETS = (2, 4, 8, 16)


def convolution(channels: int, size: int, budget: int, w4: bool, out: int | None = None, kernel: int = 3) -> Case:
    pad = kernel // 2
    return Case(seed=1, w4=int(w4), budget=budget, channels_in=channels, channels_out=out or channels, in_h=size, in_w=size, kernel_h=kernel, kernel_w=kernel,
                pad_top=pad, pad_left=pad, pad_bottom=pad, pad_right=pad)


def layers(config: Config) -> list[tuple[str, Case]]:
    """Convolutions of residual networks for CIFAR-10 and their input layer, whose windows the host lays out as 27 channels."""
    found = [("64 channels, 16x16", convolution(64, 16, k, True)) for k in BUDGETS if k <= 2 * config.group]
    for channels, size in ((16, 32), (32, 16), (64, 8)):
        modes = [(k, w4) for w4 in (False, True) for k in (4, 6, 8, 16) if k <= 2 * config.group]
        found += [(f"{channels} channels, {size}x{size}", convolution(channels, size, k, w4)) for k, w4 in modes]
    found += [("input, 3 channels, 32x32", convolution(27, 32, k, w4, 16, 1)) for k, w4 in ((16, False), (8, False), (6, True))]
    return found


def causes(config: Config, case: Case, layer: Layer) -> dict[str, float]:
    """Where the multipliers' cycles go, percent of the layer's cycles; they add up to 100."""
    c = layer_cycles(config, layer)
    weight_nibbles = 1 if case.w4 else 2
    macs = case.out_h * case.out_w * case.channels_in * case.channels_out * case.kernel_h * case.kernel_w
    used = macs * case.budget / config.group * weight_nibbles / config.nibble_multipliers
    busy = c.tiles * c.steps * case.budget
    return {name: 100 * cycles / c.total for name, cycles in {
        "used": used, "padding": busy - used, "bandwidth": c.tiles * c.steps * (c.step - case.budget),
        "drain": (c.tiles - 1) * (c.tile - c.steps * c.step), "fill": c.drain + c.fixed}.items()}


def utilization(config: Config, harness: Harness, console: Console) -> tuple[list[dict], bool]:
    """Runs every layer on the RTL; False if one code or cycle differs from the golden machine."""
    named = layers(config)
    programs: list[list[Command]] = [build(config, [case]) for _, case in named]
    streams = [encode(config, program) for program in programs]
    golden = Machine(config)
    expected = [golden.run(stream) for stream in streams]
    got = harness.run(streams)
    wrong = [text for g, e in zip(got, expected) for text in differences(config, g, e)]
    table, rows = Table(title=f"multipliers of {config.name}: percent of cycles, measured on the RTL", title_justify="left"), []
    for column in ("3x3 convolution", "weights", "budget", "cycles", "used", "padding", "bandwidth", "drain", "fill"):
        table.add_column(column, justify="left" if column == "3x3 convolution" else "right")
    for (name, case), program, run in zip(named, programs, got):
        split = causes(config, case, next(c for c in program if isinstance(c, Layer)))
        row = {"layer": name, "weight_bits": 4 if case.w4 else 8, "budget": case.budget, "cycles": run.layers[0]["cycles"]}
        row |= {cause: round(percent, 2) for cause, percent in split.items()}
        rows.append(row)
        table.add_row(name, f"w{row['weight_bits']}", str(case.budget), f"{row['cycles']:,}", *(f"{v:.1f}" for v in split.values()))
    console.print(table)
    console.print("padding: pixels, channels or codes beyond the tensor's; bandwidth: reads outlast the budget; drain: the output stage outlasts a tile;\n"
                  "fill: first reads, pipeline, last tile's outputs")
    line = [(row["budget"], row["cycles"]) for row in rows if row["layer"].startswith("64 channels, 16x16")]
    slope = sum(k * cycles for k, cycles in line) / sum(k * k for k, _ in line)
    worst = max(abs(cycles / (slope * k) - 1) for k, cycles in line)
    console.print(f"time against precision: {', '.join(f'{k}: {cycles:,}' for k, cycles in line)} cycles; {slope:,.1f} per term of budget, "
                  f"at most {100 * worst:.2f} % off that line")
    for text in wrong:
        console.print(f"differs: {text}")
    return [*rows, {"linearity_percent": 100 * worst}], not wrong


def speed(config: Config, harness: Harness, console: Console, cycles_wanted: int) -> list[dict]:
    """The same program under the C++ harness, under cocotb as this project runs it, and under cocotb as it comes."""
    stream = encode(config, build(config, [convolution(16, 8, 4, True)]))
    golden = Machine(config).run(stream)
    cycles = golden.cycles
    repeat = max(1, cycles_wanted // cycles)
    harness.run([stream] * repeat)
    rows = [{"simulation": "C++ harness, Verilator", "cycles": cycles * repeat, "cycles_per_second": harness.cycles_per_second}]
    component, report = export(Accelerator(config), "accelerator"), Path("build") / "sim" / "stimulus.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    program = report.with_name("stimulus.bin")
    program.write_bytes(stream)
    expected = report.with_name("expected.bin")
    expected.write_bytes(golden.outputs.tobytes())
    for name, simulator, fast in (("cocotb, Verilator, ports only visible", "verilator", True), ("cocotb, Verilator, its runner's settings", "verilator", False),
                                  ("cocotb, Icarus", "icarus", True)):
        console.print(f"building and running: {name} ...")
        cocotb_runner.run(component, "accelerator", "sim.cocotb_stimulus", simulator=simulator, fast=fast,
                          env={"SDP_STIMULUS": program.resolve(), "SDP_REPORT": report.resolve(), "SDP_EXPECTED": expected.resolve(),
                               "SDP_WORD": config.word, "SDP_CYCLES": cycles})
        rows.append({"simulation": name, **json.loads(report.read_text())})
    table = Table(title=f"simulation of {config.name}, the same program", title_justify="left")
    for column in ("simulation", "cycles", "cycles/s", "times slower than the harness"):
        table.add_column(column, justify="left" if column == "simulation" else "right")
    for row in rows:
        row["slower"] = rows[0]["cycles_per_second"] / row["cycles_per_second"]
        table.add_row(row["simulation"], f"{row['cycles']:,}", f"{row['cycles_per_second']:,.0f}", f"{row['slower']:.1f}")
    console.print(table)
    return rows


def main(args) -> int:
    console = Console()
    if not console.is_terminal:
        console = Console(width=132)
    config, begin = args.config, time.perf_counter()
    console.print("building the simulation ...")
    harness = Harness(config, tuned=True)
    measured, equal = utilization(config, harness, console)
    report = {"config": config.name, "utilization": measured, "speed": speed(config, harness, console, args.number or 200_000),
              "golden": golden_speed(config, console)}
    path = Path(args.out) / config.name / "bench.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, default=np.ndarray.tolist) + "\n")
    console.print(f"made {path} in {time.perf_counter() - begin:.0f} s")
    return 0 if equal else 1
