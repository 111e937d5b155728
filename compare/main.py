"""``sdp compare``: SDP beside its rivals, from accuracies, machines and meters to ``docs/comparison.md``."""

import argparse
from pathlib import Path

from compare import accuracy, cases, hardware, plots, report, results, training
from compare.method import METHODS, CompareError
from sdp.config import CONFIGS
from synth import area, output
from synth.cells.cell_library import read_liberty


def measured(build: Path, liberty: Path) -> dict[str, float]:
    """um2 of the rivals' units that are in no machine; areas of machines that are not there yet are made on the way."""
    for name in hardware.MACHINES.values():
        if hardware.read(build, name) is None:
            area.main(argparse.Namespace(config=CONFIGS[name], liberty=liberty, out=build))
    library = read_liberty(liberty)
    return {name: hardware.unit_area(name, library) for name in hardware.UNITS}


def main(args: argparse.Namespace) -> int:
    """The command. ``args.only``, ``args.images``, ``args.joined`` (search nothing), ``args.finetune``, ``args.liberty``, ``args.out`` (folder of builds),
    ``args.document``."""
    console = output.console(150)
    chosen = [name for name in cases.names() if args.only in name]
    if not args.joined:
        options = ["--only", args.only, "--out", str(args.out / "compare"), *(["--images", str(args.images)] if args.images else [])]
        if failed := accuracy.main(options):
            return failed
    if args.finetune:
        for name in filter(training.trainable, chosen):
            if failed := training.main(["--network", name, "--out", str(args.out / "compare")]):
                return failed
    units = measured(args.out, args.liberty) if args.liberty else {}
    machines, missing = hardware.machines(args.out)
    if cluster := hardware.olaccel(units):
        machines["olaccel"] = cluster
    found = {name: methods for name, methods in results.collect(args.out, machines, chosen, list(METHODS)).items() if methods}
    if not found:
        raise CompareError("nothing was searched yet, without --joined the search comes first")
    missing += [f"python -m compare.accuracy --only {name}" + "".join(f" --method {method}" for method in METHODS if method not in found.get(name, METHODS))
                for name in chosen if not METHODS.keys() <= found.get(name, {}).keys()]
    drawn = plots.write(found, output.made(args.out / "compare"))
    eyeriss = {name: found[name]["eyeriss"]["points"][0] for name in chosen if name in found}
    output.made(args.document.parent)
    args.document.write_text(report.render(found, machines, units, eyeriss, missing, drawn))
    for command in missing:
        console.print(f"not measured: {command}", highlight=False)
    for path in [*drawn, args.document]:
        console.print(f"made {path}", highlight=False)
    return 0
