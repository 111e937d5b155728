"""Whole programs on the simulated accelerator at full speed: a C++ loop around Verilator's model, built once per Verilog text.

Files between the two, all numbers 64-bit little endian. Programs: their count, then of each its length in bytes and its bytes.
Results: of each program ``_Header``, then the counters of ``sdp.registers.TRAFFIC``, four numbers per layer in the log, the places of ``last``
in the output, the output.
"""

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sdp.config import Config
from sdp.encoding import encode
from sdp.program import Error
from sdp.registers import LOG_FIELDS, STATUS_DONE, STATUS_ERROR, TRAFFIC, c_header
from sim.build_cache import BUILD, cached_build, content_hash
from sim.toolchain import ToolError, find_verilator, run_tool, verilator_environment, verilator_version

LIMIT = 200_000_000
"""Cycles after which a program counts as hung."""


class _Header(NamedTuple):
    ended: int
    status: int
    error: int
    cycles: int
    busy: int
    waiting: int
    terms: int
    empty: int
    layer_count: int
    simulated: int
    entries: int
    lasts: int
    output_bytes: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the machine did with one program; counters as in ``sdp.registers``.

    Attributes
    ----------
    outputs : the output stream; packets : the same, cut after each beat that was flagged ``last``
    layers : the layer log, oldest first, as dictionaries of ``LOG_FIELDS``; layer_count : layers that ended (the log may hold fewer)
    error : ``Error.NONE`` if the program ended well
    hung : the limit of cycles came before the end; the machine was reset afterwards
    simulated : cycles that were simulated from start to interrupt
    traffic : the counters of ``sdp.registers.TRAFFIC``
    """

    outputs: bytes
    packets: list[bytes]
    cycles: int
    busy: int
    waiting: int
    terms: int
    empty: int
    layers: list[dict[str, int]]
    layer_count: int
    error: Error
    hung: bool
    simulated: int
    traffic: dict[str, int]

    @property
    def ok(self) -> bool:
        return self.error is Error.NONE and not self.hung


class Harness:
    """A built simulation; its machine starts from reset in every ``run``.

    Parameters
    ----------
    verilog : path of ``accelerator.v`` or its text; made from ``config`` if left out
    trace : build with waveforms, several times slower; a number above 1: only of so many levels of the hierarchy
    tuned : compile twice, the second time with the profile of a training run: worth it for long simulations
    """

    def __init__(self, config: Config, verilog: str | Path | None = None, build_dir: str | Path = BUILD, *, trace: bool | int = False, tuned: bool = False):
        self.config, self.trace = config, trace
        if verilog is None:
            from hw.accelerator import Accelerator
            from hw.verilog import export

            verilog = export(Accelerator(config), "accelerator")
        text = verilog if isinstance(verilog, str) and "\n" in verilog else Path(verilog).read_text()
        self.folder = _build(config, text, Path(build_dir), trace, tuned)
        self.cycles_per_second = 0.0
        """Of the latest ``run``."""

    def run(
        self,
        programs: Sequence[bytes],
        progress: Callable[[int, int, int], None] | None = None,
        *,
        limit: int = LIMIT,
        idle: float = 0.0,
        stall: float = 0.0,
        seed: int = 1,
        random_reset: bool = False,
        waves: tuple[str | Path, int, int, int] | None = None,
        report: bool = False,
    ) -> list[Result]:
        """Run the programs one after the other; memories keep what an earlier one left.

        Parameters
        ----------
        progress : called after each program with its index, the number of programs and its simulated cycles
        limit : cycles per program before it counts as hung
        idle, stall : share of cycles, at random but repeatable by ``seed``, without input and without readiness for output
        random_reset : memories and registers without a reset begin with random contents instead of zeros
        waves : (file, program, first cycle, last cycle) to record as VCD; needs ``trace``
        report : print the speed

        Raises
        ------
        ToolError
            The simulation stopped early; a program that fails is no error here, but shows in its result.
        """
        programs = list(programs)
        for index, program in enumerate(programs):
            if not program or len(program) % self.config.word:
                raise ValueError(f"program {index}: {len(program)} bytes are no whole number of beats of {self.config.word} bytes")
        if waves is not None and not self.trace:
            raise ValueError("waves need a harness that was built with trace=True")
        path, program, first, last = waves or ("", 0, 0, 0)
        with tempfile.TemporaryDirectory(prefix="run-", dir=self.folder.parent) as folder:
            source, target = Path(folder) / "programs", Path(folder) / "results"
            with source.open("wb") as file:
                file.write(struct.pack("<Q", len(programs)))
                for data in programs:
                    file.write(struct.pack("<Q", len(data)))
                    file.write(data)
            command = [
                self.folder / "harness", source, target, limit, _share(idle), _share(stall), seed, 2 if random_reset else 0,
                Path(path).resolve() if path else "", program, first, last,
            ]
            cycles, seconds = self._simulate([str(word) for word in command], len(programs), progress)
            results = self._parse(target.read_bytes(), len(programs))
        self.cycles_per_second = cycles / seconds if seconds else 0.0
        if report:
            print(f"simulated {cycles:,} cycles in {seconds:.1f} s: {self.cycles_per_second:,.0f} cycles/s")
        return results

    def _simulate(self, command, count, progress):
        cycles, seconds = 0, 0.0
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, text=True)
            try:
                for line in process.stdout:
                    words = line.split()
                    if len(words) != 3 or not words[0].isdigit():
                        print(line, end="", file=sys.stderr)  # Verilator's own messages
                        continue
                    cycles, seconds = cycles + int(words[1]), seconds + float(words[2])
                    if progress:
                        progress(int(words[0]), count, int(words[1]))
                code = process.wait()
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
                process.stdout.close()
            if code:
                errors.seek(0)
                raise ToolError(f"the simulation stopped with exit code {code}: {errors.read().strip()[-2000:]}")
        return cycles, seconds

    def _parse(self, data, count):
        results, at = [], 0

        def numbers(n):
            nonlocal at
            at += 8 * n
            return struct.unpack_from(f"<{n}Q", data, at - 8 * n)

        for _ in range(count):
            header = _Header(*numbers(len(_Header._fields)))
            traffic = dict(zip(TRAFFIC, numbers(len(TRAFFIC))))
            log, lasts = numbers(len(LOG_FIELDS) * header.entries), numbers(header.lasts)
            outputs = data[at : at + header.output_bytes]
            at += header.output_bytes
            cuts = [0, *(beat * self.config.word for beat in lasts)]
            if cuts[-1] != len(outputs):
                cuts.append(len(outputs))
            results.append(Result(
                outputs=outputs, packets=[outputs[a:b] for a, b in zip(cuts, cuts[1:])],
                cycles=header.cycles, busy=header.busy, waiting=header.waiting, terms=header.terms, empty=header.empty,
                layers=[dict(zip(LOG_FIELDS, log[i : i + len(LOG_FIELDS)])) for i in range(0, len(log), len(LOG_FIELDS))],
                layer_count=header.layer_count, error=Error(header.error),
                hung=not header.ended or not header.status & (STATUS_DONE | STATUS_ERROR), simulated=header.simulated, traffic=traffic,
            ))
        return results


def _share(value: float) -> int:
    if not 0 <= value < 1:
        raise ValueError(f"a share of cycles of {value}, but must be from 0 to below 1")
    return min(255, round(256 * value))


def _build(config, verilog, build_dir, trace, tuned):
    source = Path(__file__).with_name("harness.cpp")
    executable = find_verilator()
    arguments = [
        "--cc", "--exe", "--build", "--top-module", "accelerator", "--prefix", "Vaccelerator", "-O3", "--no-timing",
        "-Wno-fatal", "-Wno-lint", "-Wno-SYMRSVDWORD",
        "--x-assign", "fast", "--x-initial", "unique", "--output-split", "20000", "-j", str(os.cpu_count() or 1),
        # Debian's GCC 12.2 counts -1 for each of eight comparisons that are added up (the counter of terms) when it vectorizes them.
        "-CFLAGS", f"-DSDP_WORD={config.word} -DSDP_LOG_LAYERS={config.log_layers} -fno-tree-slp-vectorize",
        "-MAKEFLAGS", "OPT_FAST=-O2 OPT_SLOW=-O1 OPT_GLOBAL=-O2",
        *(["--trace-vcd"] if trace else []), *(["--trace-depth", str(trace)] if trace > 1 else []),
    ]
    version = f"{executable} {verilator_version(executable)}"
    digest = content_hash(verilog, source.read_bytes(), c_header(), version, " ".join(arguments), str(tuned))

    def make(folder):
        (folder / "accelerator.v").write_text(verilog)
        (folder / "sdp_registers.h").write_text(c_header())
        (folder / "harness.cpp").write_bytes(source.read_bytes())

        def compile(*flags):
            run_tool([executable, *arguments, "-CFLAGS", f"-I{folder}", *flags, "-Mdir", str(folder / "obj"), "-o", str(folder / "harness"),
                      str(folder / "accelerator.v"), str(folder / "harness.cpp")], env=verilator_environment(), what="building the simulation with Verilator")

        if not tuned:
            return compile()
        profile = folder / "profile"
        compile("-CFLAGS", f"-fprofile-generate={profile}", "-LDFLAGS", "-fprofile-generate")
        _train(config, folder)
        # Same places, new flags: what make would take for up to date must go.
        for path in [path for pattern in ("*.o", "*.a", "*.gch", "*.d") for path in (folder / "obj").glob(pattern)]:
            path.unlink()
        compile("-CFLAGS", f"-fprofile-use={profile} -fprofile-correction -Wno-missing-profile")

    return cached_build(build_dir / f"harness-{config.name}-{digest}", make)


def _train(config, folder):
    """Runs layers as networks have them, so that the compiler learns which branches are taken."""
    from sim.random_layer import Case, build, fits

    cases = [Case(seed=n, w4=n % 2, budget=budget, channels_in=32, channels_out=32, in_h=8, in_w=16, kernel_h=3, kernel_w=3, residual=n % 2,
                  pad_top=1, pad_left=1, pad_bottom=1, pad_right=1) for n, budget in enumerate((3, 5, 2, 8))]
    cases += [Case(seed=9, kind=2, channels_in=32, channels_out=32, in_h=8, in_w=8, kernel_h=8, kernel_w=8)]
    stream = encode(config, build(config, [case for case in cases if fits(config, case)]))
    (folder / "training").write_bytes(struct.pack("<Q", 4) + (struct.pack("<Q", len(stream)) + stream) * 4)
    run_tool([str(folder / "harness"), str(folder / "training"), str(folder / "trained"), str(LIMIT), "0", "0", "1", "0", "", "0", "0", "0"],
             what="the simulation's training run")
