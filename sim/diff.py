"""``sdp diff``: where hardware and golden model part first, down to the signal."""

from dataclasses import dataclass
from pathlib import Path

from golden.machine import Machine
from sdp import UserError
from sdp.config import Config
from sdp.encoding import encode
from sdp.program import Command, Kind, Layer
from sim import locate, programs, signals, timeline
from sim.compare import differences
from sim.harness import Harness
from sim.random_layer import Case, CaseError, build, fits
from sim.vcd import Waves


@dataclass(frozen=True)
class Divergence:
    """``texts``: per program what differs; ``place``: the first wrong code; ``late``: if all codes are right, where cycles are lost or gained;
    ``wrong``: the first wrong signal; ``waves``: the VCD."""

    texts: list[str]
    place: locate.Place | None = None
    late: timeline.Departure | None = None
    wrong: signals.Wrong | None = None
    waves: Path | None = None
    reproduced: bool = True


def investigate(config: Config, sequence: list[list[Command]], harness: Harness, *, out: Path, waves: bool = True) -> Divergence:
    """Run the programs, one after the other, on both; look closer at what differs. ``waves``: the harness can record them."""
    machine = Machine(config)
    streams = [encode(config, program) for program in sequence]
    expected = [machine.run(program) for program in sequence]
    texts = []
    for number, (got, wanted) in enumerate(zip(harness.run(streams, limit=20_000_000), expected)):
        texts += [f"program {number}: {text}" for text in differences(config, got, wanted)]
    if not texts:
        return Divergence([])
    place, path = locate.first_wrong(config, harness, sequence), out / "diff.vcd"
    out.mkdir(parents=True, exist_ok=True)
    if place is None:
        late = timeline.find(config, harness, sequence, path if waves else None)
        return Divergence(texts, late=late, wrong=late and late.wrong, waves=path if late and waves else None)
    if not waves:
        return Divergence(texts, place)
    layer = locate.alone(config, sequence, place.program, place.index)
    first, last, near = signals.window(config, place, layer.start)
    got = harness.run([encode(config, layer.commands)], waves=(path, 0, first, last), limit=20_000_000)[0]
    same = not differences(config, got, Machine(config).run(layer.commands))
    wrong = signals.first_wrong(config, layer, place, Waves(path, signals.wanted(config, place)), first, last, near)
    return Divergence(texts, place, None, wrong, path, not same)


def describe(found: Divergence) -> str:
    """What a person wants to know, a line each, the most useful last."""
    lines = [*found.texts[:6], *([f"... and {len(found.texts) - 6} more"] if len(found.texts) > 6 else [])]
    if found.place is not None:
        lines += ["", *_of_code(found)]
    else:
        lines += ["", "every code of every layer is right: only times or counters differ", *_of_cycles(found)]
    if found.wrong is not None:
        wrong = found.wrong
        lines.append(f"first wrong signal: {wrong.unit}: {wrong.signal} in cycle {wrong.cycle}: {wrong.what}: {wrong.actual}, expected is {wrong.expected}")
    if found.waves is not None:
        whole = found.late is not None and found.late.what == "start"
        lines.append(f"made {found.waves} ({'the program' if whole else 'that layer'} alone; time / 2 is the cycle)")
    return "\n".join(lines)


def _name(program: int, index: int, layer: Layer) -> str:
    kind = f"{layer.kind.name.lower()}, {'w4' if layer.w4 else 'w8'}, budget {layer.budget}" if layer.kind is Kind.CONV else layer.kind.name.lower()
    return f"program {program}, layer {index} {layer.tag!r} ({kind})"


def _of_code(found: Divergence) -> list[str]:
    place = found.place
    lines = [f"first wrong code: {_name(place.program, place.index, place.layer)}: {place.wrong} of its codes are wrong",
             f"  tile {place.tile} of {place.tiles}, row {place.row}; output pixel y={place.y} x={place.x}, channel {place.channel}: "
             f"{place.actual}, expected is {place.expected}"]
    if found.waves is not None and found.wrong is None:
        lines.append("no signal of that tile is wrong" + ("" if found.reproduced else
                     ": the layer alone is right, so look at what runs beside it (loads, memories, control)"))
    return lines


def _of_cycles(found: Divergence) -> list[str]:
    late = found.late
    if late is None:
        return ["each layer takes the cycles that it should: look at what runs between them (loads, stores, the end) and at the counters"]
    where = _name(late.program, late.index, late.layer)
    if late.what == "start":
        seen = "does not start nearby" if late.actual is None else f"starts in cycle {late.actual} of its program"
        return [f"first layer off: {where}: {seen}, expected is {late.expected}; each takes the cycles that it should: "
                "look at the loads and stores before it"]
    lines = [f"first layer off: {where}: {late.actual} cycles, expected are {late.expected}"]
    if found.waves is not None and late.wrong is None:
        lines.append("its loops are right where it runs alone, so look at what runs beside it (loads, control)")
    return lines


def _sequence(args) -> list[list[Command]]:
    if args.case:
        case = Case.parse(args.case)
        if not fits(args.config, case):
            raise CaseError(f"case: does not fit configuration {args.config.name!r}: {case}")
        return [build(args.config, [case])]
    if not args.file:
        raise UserError("give a folder that 'sdp run' made, a program file, or --case")
    return programs.commands(args.file, args.config)


def main(args) -> int:
    """0 if nothing differs."""
    if args.verilog and not args.verilog.is_file():
        raise UserError(f"there is no file {args.verilog}")
    if args.config.array == "drq":
        raise UserError(f"configuration {args.config.name!r}: where a drq array departs is not looked for, as its data decide when what happens; "
                        "sdp fuzz compares it")
    sequence = _sequence(args)
    harness = Harness(args.config, args.verilog, trace=not args.no_waves)
    found = investigate(args.config, sequence, harness, out=Path(args.out), waves=not args.no_waves)
    if not found.texts:
        print(f"{len(sequence)} programs, {sum(isinstance(c, Layer) for p in sequence for c in p)} layers: hardware and golden model are equal")
        return 0
    print(describe(found))
    return 1
