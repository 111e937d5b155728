"""Fuzzing: random layers through the whole simulated machine, each failure reduced to one line that replays it."""

import dataclasses
import sys

from rich.progress import Progress

from golden.machine import Machine
from sdp.config import Config
from sdp.encoding import encode
from sim.compare import differences
from sim.harness import Harness
from sim.random_layer import Case, CaseError, build, draw, fits

LAYERS_PER_PROGRAM = 3


class Fuzzer:
    """Runs cases on the RTL and on the golden machine."""

    def __init__(self, config: Config, harness: Harness | None = None):
        self.config = config
        self.harness = harness or Harness(config)

    def failures(self, programs: list[list[Case]], progress=None) -> list[tuple[list[Case], list[str]]]:
        """The programs whose codes or cycles differ, with what differs."""
        streams = [encode(self.config, build(self.config, cases)) for cases in programs]
        # The memories of both begin with zeros and keep what earlier programs left.
        golden = Machine(self.config)
        expected = [golden.run(stream) for stream in streams]
        got = self.harness.run(streams, progress, limit=5_000_000)
        found = ((cases, differences(self.config, g, e)) for cases, g, e in zip(programs, got, expected))
        return [(cases, texts) for cases, texts in found if texts]

    def fails(self, case: Case) -> bool:
        return fits(self.config, case) and bool(self.failures([[case]]))

    def reduce(self, case: Case) -> Case:
        """A smaller case that still fails: every field as near to its default as it goes."""
        again = True
        while again:
            again = False
            for field in dataclasses.fields(Case):
                value = getattr(case, field.name)
                if field.name in ("seed", "kind") or value == field.default:
                    continue
                for smaller in dict.fromkeys((field.default, (field.default + value) // 2, value - 1)):
                    candidate = dataclasses.replace(case, **{field.name: smaller})
                    if smaller < value and candidate.kind and field.name.startswith("channels"):
                        candidate = dataclasses.replace(candidate, channels_in=smaller, channels_out=smaller)
                    if smaller < value and self.fails(candidate):
                        case, again = candidate, True
                        break
        return case


def replay(config: Config, case: Case) -> str:
    """The line that runs one case again."""
    return f"python -m sdp fuzz --config {config.name} --case '{case}'"


def main(args) -> int:
    """``--number`` random layers from ``--seed`` on, or the one ``--case``; returns the exit code."""
    config, count = args.config, args.number or 999
    fuzzer = Fuzzer(config)
    if args.case:
        case = Case.parse(args.case)
        if not fits(config, case):
            raise CaseError(f"case: does not fit configuration {config.name!r}: {case}")
        programs = [[case]]
    else:
        seeds = range(args.seed, args.seed + count)
        programs = [[draw(config, seed) for seed in seeds[i : i + LAYERS_PER_PROGRAM]] for i in range(0, len(seeds), LAYERS_PER_PROGRAM)]
    cycles = 0
    with Progress(transient=True) as bar:
        task = bar.add_task(f"layers on {config.name}", total=len(programs))

        def advance(index, total, simulated):
            nonlocal cycles
            cycles += simulated
            bar.update(task, completed=index + 1)

        failures = fuzzer.failures(programs, advance)
    for cases, texts in failures:
        # A layer that fails alone is easier to look at than the program that it was found in.
        alone = [case for case in cases if fuzzer.fails(case)]
        print(f"differs: {'; '.join(texts[:3])}", file=sys.stderr)
        for case in alone:
            print(f"  replay: {replay(config, fuzzer.reduce(case))}", file=sys.stderr)
        if not alone:
            seeds = [case.seed for case in cases]
            print(f"  only together: python -m sdp fuzz --config {config.name} --seed {seeds[0]} --number {len(seeds)}", file=sys.stderr)
    layers = sum(len(cases) for cases in programs)
    print(f"{layers} random layers in {len(programs)} programs, {cycles:,} cycles on {config.name}, seed {args.seed}: {len(failures)} programs differ")
    return 1 if failures else 0
