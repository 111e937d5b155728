"""Power of the rivals' arrays, by the meter of :mod:`synth.power`, on the same network: ``python -m compare.power --liberty FILE.lib``.

Layers, images, clock and library are those of ``sdp power``. ``int4``: 4 or 8 bits of codes and of weights; ``int8``: whole codes. Not DRQ: its sums lie in
memories inside of the array, which the simulation of gates does not know.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from compare import built, static
from compiler import quantize
from sdp import UserError
from sdp.config import Config
from synth import output, power
from synth.cells.cell_library import read_liberty
from synth.cells.yosys import find_yosys
from synth.gate_level import cell_model
from synth.power import Job, Workload
from synth.sta.opensta import sta_version


def narrow(config: Config, work: Workload, layers: list[str]) -> Iterator[Job]:
    """``int4``: every pair of bits for layers that alone read their input, which then has four bits; all other layers exact."""
    calibration, arithmetic = quantize.calibrate(work.network, work.calibration), static.Static(config)
    for n, layer in enumerate(layers):
        for mode in ((4, 4), (8, 4), (4, 8), (8, 8)):
            network = arithmetic.network(calibration, {layer: mode})
            if all(getattr(x, "drop", 0) == 0 for x in network.layers):
                yield Job(layer, power.programs(built.compiled_for(network, config), work.images[n]))


def whole(config: Config, work: Workload, layers: list[str]) -> Iterator[Job]:
    """``int8``."""
    network = quantize.quantize(quantize.calibrate(work.network, work.calibration), config)
    for n, layer in enumerate(layers):
        yield Job(layer, power.programs(built.compiled_for(network, config), work.images[n]))


JOBS = {"int4": narrow, "int8": whole}
"""By array."""


METHODS = [method for method in built.MACHINES if built.machine(method).array in JOBS]


def jobs(config: Config, work: Workload, layers: list[str]) -> Iterator[Job]:
    """On the layers that are measured for SDP, whatever keeps this machine busy."""
    return JOBS[config.array](config, work, power.chosen(built.machine("sdp"), work.network))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare.power", description=__doc__.splitlines()[0])
    parser.add_argument("--liberty", type=Path, required=True, help="cell library, a .lib file")
    parser.add_argument("--method", action="append", choices=METHODS, help="may be given again (default: all)")
    parser.add_argument("--out", type=Path, default=Path("build"))
    args = parser.parse_args(argv)
    console = output.console(140)
    try:
        library = read_liberty(args.liberty)
        cell_model.read(library)
        find_yosys(), sta_version()
        for method in args.method or METHODS:
            config = built.machine(method)
            folder = output.made(args.out / config.name)
            found = power.report(config, library, power.CLOCK, power.workload(argparse.Namespace(model=None)),
                                 lambda text, name=config.name: print(f"{name}: {text}", flush=True), jobs)
            path = output.save(folder / "power.json", found)
            power.show(found, console)
            print(path)
    except UserError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
