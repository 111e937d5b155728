"""Power of the rivals' arrays, by the meter of :mod:`synth.power`, on the same network: ``python -m compare.power --liberty FILE.lib``.

Layers, images, clock and library are those of ``sdp power``. ``int4``: 4 or 8 bits of codes and of weights; ``int8``: whole codes; ``drq``: shares of codes
that are sensitive, without what is inside of its memories, which :func:`compare.energy.drq_memories` adds.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from compare import built, command, drq, static
from compiler import quantize
from sdp.config import Config
from synth import output, power, power_jobs
from synth.cells.cell_library import read_liberty
from synth.cells.yosys import find_yosys
from synth.gate_level import cell_model
from synth.power_jobs import Job, Workload
from synth.sta.opensta import sta_version


def narrow(config: Config, work: Workload, layers: list[str]) -> Iterator[Job]:
    """``int4``: every pair of bits for layers that alone read their input, which then has four bits; all other layers exact."""
    calibration, arithmetic = quantize.calibrate(work.network, work.calibration), static.Static(config)
    for n, layer in enumerate(layers):
        for mode in ((4, 4), (8, 4), (4, 8), (8, 8)):
            network = arithmetic.network(calibration, {layer: mode})
            if all(getattr(x, "drop", 0) == 0 for x in network.layers):
                yield Job(layer, power_jobs.programs(built.compiled_for(network, config), work.images[n]))


def whole(config: Config, work: Workload, layers: list[str]) -> Iterator[Job]:
    """``int8``."""
    network = quantize.quantize(quantize.calibrate(work.network, work.calibration), config)
    for n, layer in enumerate(layers):
        yield Job(layer, power_jobs.programs(built.compiled_for(network, config), work.images[n]))


SHARES = (0, 3, 6, 12, 25, 50, 100)
"""Of the codes that a layer reads, percent sensitive, as nearly as a threshold can: dense where few of them make all rows wait."""


def sensitive(config: Config, work: Workload, layers: list[str]) -> Iterator[Job]:
    """``drq``: each layer at every share, all other layers exact, so that its input is the same at every share; weights of two digits."""
    arithmetic = drq.Drq(config)
    exact = arithmetic.network(quantize.calibrate(work.network, work.calibration), {})
    for n, name in enumerate(layers):
        at, layer = next((at, layer) for at, layer in enumerate(exact.layers) if layer.name == name)
        codes = arithmetic.run(exact, work.images[n : n + 1])[layer.input]
        for share in SHARES:
            part = replace(layer, threshold=threshold(codes, arithmetic.region, share / 100))
            network = replace(exact, layers=(*exact.layers[:at], part, *exact.layers[at + 1 :]))
            masks = drq.mask(codes, part.threshold, part.region) if part.threshold else None
            yield Job(name, power_jobs.programs(built.compiled_for(network, config), work.images[n]), share, masks)


def threshold(codes: np.ndarray, region: tuple[int, int], share: float) -> int:
    """That leaves about this share of ``codes`` (n, h, w, c) sensitive; 0: all are."""
    largest = int(np.abs(codes).max()) + 1
    return 0 if share == 1 else min(range(1, largest + 1), key=lambda value: abs(drq.mask(codes, value, region).mean() - share))


JOBS = {"int4": narrow, "int8": whole, "drq": sensitive}
"""By array."""
KEYS = {"drq": "share of sensitive codes, %"}
"""What jobs are told apart by, if not by their budget."""


METHODS = [method for method in built.MACHINES if built.machine(method).array in JOBS]


def jobs(config: Config, work: Workload, layers: list[str]) -> Iterator[Job]:
    """On the layers that are measured for SDP, whatever keeps this machine busy."""
    return JOBS[config.array](config, work, power_jobs.chosen(built.machine("sdp"), work.network))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare.power", description=__doc__.splitlines()[0])
    parser.add_argument("--liberty", type=Path, required=True, help="cell library, a .lib file")
    parser.add_argument("--method", action="append", choices=METHODS, help="may be given again (default: all)")
    parser.add_argument("--out", type=Path, default=Path("build"))
    args = parser.parse_args(argv)
    return command.run(lambda console: _run(args, console))


def _run(args: argparse.Namespace, console: Console) -> list[Path]:
    library, made = read_liberty(args.liberty), []
    cell_model.read(library)
    find_yosys(), sta_version()
    for method in args.method or METHODS:
        config = built.machine(method)
        folder = output.made(args.out / config.name)
        found = power.report(config, library, power.CLOCK, power_jobs.workload(argparse.Namespace(model=None)),
                             lambda text, name=config.name: print(f"{name}: {text}", flush=True), jobs, KEYS.get(config.array, "budget"))
        made.append(output.save(folder / "power.json", found))
        power.show(found, console)
    return made


if __name__ == "__main__":
    sys.exit(main())
