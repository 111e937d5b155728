"""``sdp diff``: where hardware and golden model part first, down to the signal."""

import json
from dataclasses import dataclass
from pathlib import Path

from golden.machine import Machine
from sdp import UserError
from sdp.config import Config
from sdp.encoding import decode, encode
from sdp.program import Command, Layer
from sim import locate, programs, signals
from sim.compare import differences
from sim.harness import Harness
from sim.random_layer import Case, CaseError, build, fits
from sim.vcd import Waves


@dataclass(frozen=True)
class Divergence:
    """``texts``: per program what differs; ``place``: the first wrong code; ``wrong``: the first wrong signal; ``waves``: the VCD."""

    texts: list[str]
    place: locate.Place | None = None
    wrong: signals.Wrong | None = None
    waves: Path | None = None
    reproduced: bool = True


def investigate(config: Config, sequence: list[list[Command]], verilog: str | Path | None = None, *, out: Path, waves: bool = True) -> Divergence:
    """Run the programs, one after the other, on both; look closer at what differs. ``verilog``: path or text, generated if none."""
    harness, machine = Harness(config, verilog, trace=waves), Machine(config)
    streams = [encode(config, program) for program in sequence]
    expected = [machine.run(program) for program in sequence]
    texts = []
    for number, (got, wanted) in enumerate(zip(harness.run(streams, limit=20_000_000), expected)):
        texts += [f"program {number}: {text}" for text in differences(config, got, wanted)]
    if not texts:
        return Divergence([])
    place = locate.first_wrong(config, harness, sequence)
    if place is None or not waves:
        return Divergence(texts, place)
    layer = locate.alone(config, sequence, place)
    first, last, near = signals.window(config, place, layer.start)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "diff.vcd"
    got = harness.run([encode(config, layer.commands)], waves=(path, 0, first, last), limit=20_000_000)[0]
    same = not differences(config, got, Machine(config).run(layer.commands))
    wrong = signals.first_wrong(config, layer, place, Waves(path, signals.wanted(config, place)), first, last, near)
    return Divergence(texts, place, wrong, path, not same)


def describe(found: Divergence) -> str:
    """What a person wants to know, a line each, the most useful last."""
    lines = [*found.texts[:6], *([f"... and {len(found.texts) - 6} more"] if len(found.texts) > 6 else [])]
    if (place := found.place) is None:
        lines.append("every code of every layer is right: only times or counters differ")
        return "\n".join(lines)
    layer = place.layer
    lines += [
        "", f"first wrong code: program {place.program}, layer {place.index} {layer.tag!r} ({layer.kind.name.lower()}, {'w4' if layer.w4 else 'w8'}, "
        f"budget {layer.budget}): {place.wrong} of its codes are wrong",
        f"  tile {place.tile} of {place.tiles}, row {place.row}; output pixel y={place.y} x={place.x}, channel {place.channel}: "
        f"{place.actual}, expected is {place.expected}"]
    if found.waves is None:
        return "\n".join(lines)
    if found.wrong is None:
        lines.append("no signal of that tile is wrong" + ("" if found.reproduced else
                     ": the layer alone is right, so look at what runs beside it (loads, memories, control)"))
    else:
        wrong = found.wrong
        lines.append(f"first wrong signal: {wrong.unit}: {wrong.signal} in cycle {wrong.cycle}: {wrong.what}: {wrong.actual}, expected is {wrong.expected}")
    return "\n".join([*lines, f"made {found.waves} (that layer alone; time / 2 is the cycle)"])


def _sequence(args) -> list[list[Command]]:
    if args.case:
        case = Case.parse(args.case)
        if not fits(args.config, case):
            raise CaseError(f"case: does not fit configuration {args.config.name!r}: {case}")
        return [build(args.config, [case])]
    if not args.file:
        raise UserError("give a folder that 'sdp run' made, a program file, or --case")
    sequence, report = [decode(args.config, program) for program in programs.read(args.file)], Path(args.file) / "report.json"
    names = iter(json.loads(report.read_text())["program_layers"] if report.is_file() else [])
    return [programs.named(program, [next(names, c.tag) for c in program if isinstance(c, Layer)]) for program in sequence]


def main(args) -> int:
    """0 if nothing differs."""
    if args.verilog and not args.verilog.is_file():
        raise UserError(f"there is no file {args.verilog}")
    sequence = _sequence(args)
    found = investigate(args.config, sequence, args.verilog, out=Path(args.out), waves=not args.no_waves)
    if not found.texts:
        print(f"{len(sequence)} programs, {sum(isinstance(c, Layer) for p in sequence for c in p)} layers: hardware and golden model are equal")
        return 0
    print(describe(found))
    return 1
