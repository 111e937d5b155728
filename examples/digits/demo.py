"""The demonstration: a trained network classifies real images on Verilog that was generated a moment ago, bit for bit."""

import json
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from compiler import flow, onnx_import, quantize, schedule
from compiler.loss import Bound
from examples.digits import data
from hw import verilog
from sdp.config import Config
from sdp.listing import disassemble
from sim.harness import Harness
from sim.verify import Verification, verify

MODEL = Path(__file__).with_name("digits.onnx")
BOUND = Bound(points=1.0)
"""Of accuracy, estimated on calibration images."""


def progress_bar(console: Console) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True)


def top1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Percent."""
    return 100 * float((logits.reshape(len(logits), -1).argmax(axis=1) == labels).mean())


def layer_rows(compiled: schedule.Compiled, checked: Verification) -> list[dict]:
    """The layers of the report, in the order of execution."""
    config, rows = compiled.config, []
    for layer, measured in zip(compiled.network.layers, checked.layers, strict=True):
        conv = layer.weights is not None
        needed = layer.macs * layer.budget / config.group * (1 if layer.w4 else 2)
        rows.append({
            "name": layer.name, "kind": layer.kind.name.lower(), "shape": "x".join(map(str, layer.out_shape)), "weight_bits": (4 if layer.w4 else 8) if conv else None,
            "budget": layer.budget if conv else None, "macs": layer.macs, "cycles_model": measured.cycles_model, "cycles_rtl": measured.cycles_rtl,
            "utilization": round(needed / measured.cycles_rtl / config.nibble_multipliers, 4) if conv and measured.cycles_rtl else 0.0,
            "terms": measured.terms, "empty_slots": measured.empty, "mismatches": measured.mismatches,
        })
    return rows


def show(console: Console, config: Config, rows: list[dict]) -> None:
    table = Table(title=f"digits on {config.name}, cycles per image and codes of all images", title_justify="left")
    for name in ("layer", "kind", "output", "weights", "budget", "formula", "hardware", "utilization", "mismatches"):
        table.add_column(name, justify="left" if name in ("layer", "kind", "output") else "right")
    for row in rows:
        conv = row["budget"] is not None
        table.add_row(row["name"], row["kind"], row["shape"], f"w{row['weight_bits']}" if conv else "", f"{row['budget']} of {2 * config.group}" if conv else "",
                      f"{row['cycles_model']:,}", f"{row['cycles_rtl']:,}", f"{100 * row['utilization']:.1f} %" if conv else "", str(row["mismatches"]))
    console.print(table)


def main(args) -> int:
    """Quantise, choose budgets, compile, generate, simulate, compare; returns 1 if one code or one cycle differs."""
    config, console = args.config, Console()
    if not console.is_terminal:
        console = Console(width=132)  # a file has no width of its own
    out = Path(args.out) / "demo"
    out.mkdir(parents=True, exist_ok=True)
    split = data.load()
    network = onnx_import.read(MODEL)
    calibration = split["calibration"]
    with progress_bar(console) as bar:
        chosen = flow.optimize(network, calibration.images, calibration.labels, config, lambda layer: schedule.cycles(config, layer), BOUND,
                               progress=bar).network
    compiled = schedule.compile(chosen, config)
    exact = schedule.compile(quantize.quantize(quantize.calibrate(network, calibration.images), config), config)
    images, labels = split["test"].images, split["test"].labels
    made = [Path(path) for path in verilog.emit(config, args.out)]
    console.print("building the simulation ...")
    harness = Harness(config, made[0])

    runs = {}
    count = min(args.number or len(images), len(images))
    with progress_bar(console) as bar:
        for name, what, number, trace in (("traced", compiled, count, True), ("plain", compiled, count, False), ("exact8", exact, min(count, 50), False)):
            codes = what.network.encode(images[:number])
            task = bar.add_task({"traced": "every layer", "plain": "classification", "exact8": "exact 8 bit"}[name], total=number)
            runs[name] = verify(what, harness, codes, trace=trace, progress=lambda index, total, cycles: bar.update(task, completed=index))
    # Accuracy of the exact network comes from the golden machine's arithmetic on all images.
    from compiler.quantized import run as execute

    integer = execute(exact.network, exact.network.encode(images[:count]), config.group)[exact.network.layers[-1].name]
    float_logits = network.run(images[:count])[network.nodes[-1].name]
    rows = layer_rows(compiled, runs["traced"])
    problems = [f"{name}: {text}" for name, checked in runs.items() for text in checked.problems]
    for row in rows:
        if row["cycles_model"] != row["cycles_rtl"]:
            problems.append(f"layer {row['name']}: {row['cycles_rtl']} cycles, {row['cycles_model']} by formula")
    report = {
        "config": config.name, "images": count, "top1_float": top1(float_logits, labels[:count]), "top1_int8": top1(integer, labels[:count]),
        "top1_sdp": top1(runs["plain"].codes, labels[:count]), "mismatches": sum(checked.mismatches for checked in runs.values()),
        "cycles_per_image": runs["plain"].cycles, "cycles_per_image_exact8": runs["exact8"].cycles,
        "speedup": round(runs["exact8"].cycles / runs["plain"].cycles, 3), "images_exact8_rtl": runs["exact8"].images, "problems": problems, "layers": rows,
    }
    files = {out / "report.json": json.dumps(report, indent=1) + "\n",
             out / "program.txt": disassemble([*compiled.setup(), *compiled.frame(chosen.encode(images[0]))]) + "\n"}
    for path, text in files.items():
        path.write_text(text)

    show(console, config, rows)
    console.print(f"top-1 of {count} images: float {report['top1_float']:.2f} %, INT8 {report['top1_int8']:.2f} %, SDP {report['top1_sdp']:.2f} %")
    console.print(f"cycles per image: {report['cycles_per_image']:,}, exact 8 bit {report['cycles_per_image_exact8']:,}: {report['speedup']:.2f} times fewer")
    console.print(f"{report['mismatches']} of all codes differ; simulated at {harness.cycles_per_second:,.0f} cycles/s")
    for path in (*made, *files):
        console.print(f"made {path}")
    for text in problems[:10]:
        print(f"differs: {text}", file=sys.stderr)
    return 1 if problems or report["mismatches"] else 0
