"""``sdp run``: a network on test data, float against integers against simulated hardware, with everything measured in one report."""

import dataclasses
import functools
import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sdp.config import Config
from sim import accuracy, data, flow, programs
from sim.harness import Harness
from sim.verify import Verification, verify

BATCH = 32
"""Images at once in the integer model: bounds its memory."""
SNR_IMAGES = 64
"""Images that signal-to-noise ratios are measured on."""


@dataclass(frozen=True, eq=False)
class Measured:
    """All that the report is made of. ``traced``: every layer stored; ``plain``, ``exact8``: as an application would run it."""

    labels: np.ndarray
    logits: dict[str, np.ndarray]
    traced: Verification
    plain: Verification
    exact8: Verification
    noise: dict[str, tuple[float, float]]

    @property
    def problems(self) -> list[str]:
        runs = (("every layer stored", self.traced), ("plain", self.plain), ("exact 8 bit", self.exact8))
        return [f"{name}: {text}" for name, run in runs for text in run.problems]


def progress_bar(console: Console) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True)


def layer_rows(compiled, measured: Measured) -> list[dict]:
    """A dictionary per layer, in the order of execution; ``empty_slots``: of all slots for terms, the share that found none."""
    config, by_name = compiled.config, {layer.name: layer for layer in compiled.network.layers}
    rows = []
    for entry in measured.traced.layers:
        layer = by_name[entry.name]
        sums = layer.weights is not None and layer.kind.name == "CONV"
        digits = 0 if layer.weights is None else 4 if layer.w4 else 8
        needed = layer.macs * layer.budget / config.group * (digits // 4) if sums else 0
        slots = entry.terms + entry.empty
        snr, own = measured.noise.get(entry.name, (None, None))
        rows.append({
            "name": entry.name, "kind": layer.kind.name.lower(), "shape": list(layer.out_shape), "weight_bits": digits or None,
            "budget": layer.budget if sums else None, "macs": layer.macs, "cycles_model": entry.cycles_model, "cycles_rtl": entry.cycles_rtl,
            "utilization": round(needed / max(entry.cycles_rtl, 1) / config.nibble_multipliers, 4) if sums else None,
            "terms": entry.terms, "empty_slots": round(entry.empty / slots, 4) if slots else None, "mismatches": entry.mismatches,
            "snr_db": None if snr is None else round(snr, 2), "snr_own_db": None if own is None else round(own, 2),
        })
    return rows


def report_of(name: str, config: Config, compiled, measured: Measured, chosen: flow.Chosen, loss: float) -> dict:
    """What ``report.json`` holds; shares in percent."""
    rows, count = layer_rows(compiled, measured), len(measured.labels)
    hits = {kind: int((values.argmax(axis=1) == measured.labels).sum()) for kind, values in measured.logits.items()}
    macs, cycles = sum(row["macs"] for row in rows), sum(row["cycles_rtl"] for row in rows)
    reducing = [sum(row[key] for row in rows if row["kind"] == "conv") for key in ("cycles_rtl", "macs")]
    problems = list(measured.problems)
    problems += [f"layer {row['name']}: {row['cycles_rtl']} cycles, {row['cycles_model']} by formula" for row in rows
                 if row["cycles_model"] != row["cycles_rtl"]]
    return {
        "network": name, "config": config.name, "max_loss": loss, "images": count, "rtl_images": measured.traced.images,
        **{f"top1_{kind}": accuracy.percent(hits[kind], count) for kind in hits},
        **{f"top1_{kind}_interval": [round(x, 4) for x in accuracy.wilson(hits[kind], count)] for kind in hits},
        "mismatches": sum(run.mismatches for run in (measured.traced, measured.plain, measured.exact8)),
        "cycles_per_image": measured.plain.cycles, "cycles_per_image_exact8": measured.exact8.cycles,
        "speedup": round(measured.exact8.cycles / max(measured.plain.cycles, 1), 3), "macs": macs, "cycles_layers": cycles,
        "nibble_multipliers": config.nibble_multipliers, "group": config.group,
        "nibble_cycles_per_mac": round(cycles * config.nibble_multipliers / macs, 4) if macs else None,
        "nibble_cycles_per_mac_with_transfers": round(measured.plain.cycles * config.nibble_multipliers / macs, 4) if macs else None,
        "nibble_cycles_per_mac_reducing": round(reducing[0] * config.nibble_multipliers / reducing[1], 4) if reducing[1] else None,
        "problems": problems, "layers": rows, "program_layers": flow.layer_names(compiled),
        "curve": [{"cycles": p.cycles, "loss": round(p.loss, 4), "divergence": round(p.divergence, 6)} for p in chosen.curve],
        "trials": [dataclasses.asdict(trial) for trial in chosen.trials],
    }


def measure(args, console: Console, reference, compiled, exact, chosen, test: data.Data, harness: Harness) -> Measured:
    config = args.config
    runner, fixed = accuracy.onnx_runner(args.reference or args.model)
    kinds = {"float": (runner, fixed or BATCH), "int8": (functools.partial(flow.logits, exact.network, config=config), BATCH),
             "sdp": (functools.partial(flow.logits, compiled.network, config=config), BATCH)}
    logits = {}
    with progress_bar(console) as bar:
        for kind, (run, size) in kinds.items():
            task = bar.add_task({"float": "float", "int8": "INT8", "sdp": "SDP"}[kind], total=len(test))
            logits[kind] = accuracy.batches(run, test.images, size, lambda done: bar.advance(task, done), processes=kind != "float")
        shown = test.images[: args.rtl_images]
        runs = []
        for text, what, count, trace in (("RTL, every layer", compiled, len(shown), True), ("RTL", compiled, len(shown), False),
                                         ("RTL, exact 8 bit", exact, 1, False)):
            task = bar.add_task(text, total=count)
            codes = what.network.encode(shown[:count])
            runs.append(verify(what, harness, codes, trace=trace, progress=lambda index, total, cycles: bar.update(task, completed=index)))
    # What the application sees must be what the integer model says: two paths to the same codes.
    seen, said = runs[1].codes.reshape(len(shown), -1), logits["sdp"][: len(shown)]
    if not np.array_equal(seen, said):
        runs[1].problems.append(f"{int((seen != said).sum())} codes of the golden machine differ from the integer model's")
    return Measured(test.labels, logits, *runs, flow.noise(reference, chosen, test.images[:SNR_IMAGES], config))


def worth_a_look(measured: Measured) -> int:
    """The image whose programs are kept: the first one that differs, so that ``sdp diff`` finds it, or just the first."""
    found = [re.match(r"image (\d+):", text) for run in (measured.plain, measured.traced) for text in run.problems]
    return next((int(match[1]) for match in found if match), 0)


def front(curve: list[dict]) -> list[dict]:
    """The points of a trade-off that no other beats in both, fastest first."""
    found: list[dict] = []
    for point in sorted(curve, key=lambda point: (point["cycles"], point["loss"])):
        if not found or point["loss"] < found[-1]["loss"]:
            found.append(point)
    return found


def show(console: Console, report: dict) -> None:
    table = Table(title=f"{report['network']} on {report['config']}, per image", title_justify="left")
    for name in ("layer", "kind", "weights", "budget", "MACs", "formula", "hardware", "use", "empty", "SNR dB", "own dB"):
        table.add_column(name, justify="left" if name in ("layer", "kind") else "right")
    for row in report["layers"]:
        def text(name, form):
            return "" if row[name] is None else form.format(row[name])
        table.add_row(row["name"], row["kind"], text("weight_bits", "w{}"), text("budget", "{} of " + str(2 * report["group"])), f"{row['macs']:,}",
                      f"{row['cycles_model']:,}", f"{row['cycles_rtl']:,}", text("utilization", "{:.1%}"), text("empty_slots", "{:.1%}"),
                      text("snr_db", "{:.1f}"), text("snr_own_db", "{:.1f}"))
    console.print(table)
    console.print(f"top-1 of {report['images']} images (95 % interval): " + ", ".join(
        "{} {:.2f} % ({:.2f} ... {:.2f})".format(label, report[f"top1_{kind}"], *report[f"top1_{kind}_interval"])
        for kind, label in (("float", "float"), ("int8", "INT8"), ("sdp", "SDP"))))
    if len(report["curve"]) > 1:
        console.print("trade-off on calibration images, fastest first (cycles of the layers: points of top-1 expected to be lost beyond exact 8 bit)")
        console.print("  " + ", ".join(f"{point['cycles']:,}: {point['loss']:.2f}" for point in front(report["curve"])))
    console.print(f"cycles per image: {report['cycles_per_image']:,}, exact 8 bit {report['cycles_per_image_exact8']:,}: {report['speedup']:.2f} times fewer")
    if report["macs"]:
        console.print(f"nibble cycles per MAC: {report['nibble_cycles_per_mac']:.3f} (an 8-bit multiplier built of nibbles: 4)")
    console.print(f"{report['rtl_images']} images on the RTL, every code and cycle of every layer compared: {report['mismatches']} codes differ")


def main(args) -> int:
    """Quantise, choose, compile, measure, report; returns 1 if one code or one cycle differs."""
    from hw import verilog
    from sim import report_html

    console = Console()
    if not console.is_terminal:
        console = Console(width=150)  # a file has no width of its own
    config, stem = args.config, Path(args.model).stem if Path(args.model).stem != "model" else Path(args.model).resolve().parent.name
    preprocess = data.preprocessing(args.preprocess)
    network = flow.read(args.model)
    if args.reference and not args.reference.is_file():
        raise flow.FlowError(f"--reference: there is no file {args.reference}")
    shapes = network.shapes()
    classes = math.prod(shapes[network.nodes[-1].name])
    test = data.load(args.test, network.input_shape, preprocess, classes=classes, limit=args.images, what="test data")
    calibration = data.load(args.calibration, network.input_shape, preprocess, classes=classes, limit=args.calibration_images, what="calibration data",
                            labels_optional=True)
    if len(calibration) < 16:
        raise data.DataError(f"calibration data {args.calibration.name!r}: {len(calibration)} images are too few, it takes 16 at least")
    if common := data.overlap(test, calibration):
        print(f"warning: {common} of {len(test)} test images are calibration images, too; accuracy may be too good", file=sys.stderr)
    out = Path(args.out) if args.out else Path("build") / "run" / stem
    out.mkdir(parents=True, exist_ok=True)
    with progress_bar(console) as bar:
        chosen = flow.choose(network, calibration.images, calibration.labels, config, args.max_loss, bar)
    compiled, exact = flow.compile(chosen.sdp, config), flow.compile(chosen.exact, config)
    made = [Path(path) for path in verilog.emit(config, out)]
    if not any(Path("build/sim").glob(f"harness-{config.name}-*")):
        console.print("building the simulation, once per configuration: a minute or two ...")
    measured = measure(args, console, chosen.reference, compiled, exact, chosen.sdp, test, Harness(config, made[0]))
    report = report_of(stem, config, compiled, measured, chosen, args.max_loss)
    first = flow.programs(compiled, compiled.network.encode(test.images[worth_a_look(measured)]))
    (out / "program.bin").write_bytes(programs.pack(first))
    (out / "program.txt").write_text(programs.listing(config, first, [[], report["program_layers"]]))
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (out / "report.html").write_text(report_html.render(report))
    show(console, report)
    for name in ("report.json", "report.html", "program.bin", "program.txt"):
        console.print(f"made {out / name}")
    for text in report["problems"][:10]:
        print(f"differs: {text}", file=sys.stderr)
    return 1 if report["problems"] or report["mismatches"] else 0
