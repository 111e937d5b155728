"""The command line: ``python -m sdp VERB``. Every verb belongs to the package that does the work and is imported only when asked for."""

import argparse
import importlib
import sys
from pathlib import Path

from sdp import UserError, __version__
from sdp.config import CONFIGS, load


def _verilog(args):
    from hw.verilog import emit

    emit(args.config, args.out)


def _lint(args):
    from hw.verilog import emit
    from sim.toolchain import lint

    verilog, _ = emit(args.config, args.out)
    import hw

    lint(verilog, "accelerator", Path(hw.__file__).with_name("lint.vlt"))
    print(f"{verilog}: no warnings from verilator --lint-only -Wall beyond those that hw/lint.vlt gives a reason for")


def _owned_by(module):
    """``main(args)`` of that module: it prints its artifacts and returns the exit code, or ``None`` for success."""
    return lambda args: importlib.import_module(module).main(args)


VERBS = {
    "verilog": (_verilog, "write build/CONFIG/accelerator.v and accelerator.json"),
    "lint": (_lint, "the same, checked with Verilator's lint"),
    "check": (_owned_by("compiler.check"), "can this network run? everything that is in the way, or the table of its layers"),
    "run": (_owned_by("sim.run"), "a network on test data: accuracy, cycles, every code of the hardware compared; report.json and report.html"),
    "finetune": (_owned_by("finetune.run"), "train a network for low budgets, with the selection in the forward pass (needs PyTorch)"),
    "diff": (_owned_by("sim.diff"), "where hardware and golden model part: layer, tile, pixel, channel, then the first wrong signal"),
    "disassemble": (_owned_by("sim.programs"), "the listing of a program file"),
    "demo": (_owned_by("examples.digits.demo"), "a trained network classifies real images on the generated Verilog, compared bit for bit"),
    "area": (_owned_by("synth.area"), "synthesize and report area per unit"),
    "energy": (_owned_by("synth.energy"), "energy per inference of a compiled network: array, memories, DRAM; bits moved are exact"),
    "power": (_owned_by("synth.power"), "power of the array at gate level while it runs a real network (needs a library and OpenSTA)"),
    "timing": (_owned_by("synth.timing"), "critical path per unit, from the same netlists, beside an INT8 multiply-accumulate (needs a library and OpenSTA)"),
    "fpga": (_owned_by("synth.fpga"), "synthesize, place and route for a Lattice ECP5: LUTs, flip-flops, DSPs, block RAMs, highest clock"),
    "sweep": (_owned_by("synth.sweep"), "the design space: area, accuracy, cycles and energy over a grid of configurations; table, Pareto fronts, plots"),
    "compare": (_owned_by("compare.main"), "SDP beside DRQ, OLAccel, Eyeriss and plain arrays on equal work: docs/comparison.md"),
    "bench": (_owned_by("sim.bench"), "measure utilization, linearity in the budget, and the speed of the simulations"),
    "fuzz": (_owned_by("sim.fuzz"), "random layers through the whole machine, hardware against golden model"),
}


def _parser():
    parser = argparse.ArgumentParser(prog="sdp", description="Structured Dynamic Precision: an accelerator generator.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, (_, text) in VERBS.items():
        sub = verbs.add_parser(verb, help=text, description=text)
        sub.add_argument("--config", default="small", help=f"{', '.join(CONFIGS)} or a .toml file (default: %(default)s)")
        named = {"run": "build/run/NAME", "finetune": "build/finetuned/NAME", "energy": "FILE if it is a folder, else build/energy/NAME"}
        folder = None if verb in named else Path("build")
        sub.add_argument("--out", type=Path, default=folder, help=f"folder for what is made (default: {folder or named[verb]})")
        if verb in ("area", "timing", "power"):
            without = {"area": "without it areas are NAND2 equivalents", "timing": "without it there are no delays"}.get(verb, "needed")
            sub.add_argument("--liberty", type=Path, help=f"cell library, a .lib file; {without}")
        if verb == "sweep":
            sub.add_argument("--grid", type=Path, required=True, help="a TOML file such as sweep.toml, which explains itself")
            sub.add_argument("--liberty", type=Path, help="cell library, a .lib file (default: the grid's, or NAND2 equivalents)")
            sub.add_argument("--jobs", type=_positive, help="processes (default: as many as there are cores)")
            sub.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="a Dask scheduler whose workers compute instead (needs 'distributed')")
        if verb == "fpga":
            sub.add_argument("--device", help="25k, 45k or 85k (default: the smallest with room)")
            sub.add_argument("--seed", type=int, default=1, help="of the placement (default: %(default)s)")
            sub.add_argument("--frequency", type=_positive, default=50, help="MHz that place and route aims at (default: %(default)s)")
        if verb in ("fuzz", "bench", "demo"):
            sub.add_argument("-n", "--number", type=_positive, help="how many layers, cycles or images (default: fitting)")
            sub.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
        if verb in ("check", "run", "finetune"):
            sub.add_argument("model", type=Path, help="an ONNX file")
        if verb == "run":
            _run_arguments(sub)
        if verb == "finetune":
            _finetune_arguments(sub)
        if verb == "diff":
            sub.add_argument("file", type=Path, nargs="?", help="a folder that 'sdp run' made, or a program file")
            sub.add_argument("--verilog", type=Path, help="the Verilog to look into (default: generated now)")
            sub.add_argument("--no-waves", action="store_true", help="do not look for the signal, which needs a slower simulation")
        if verb == "disassemble":
            sub.add_argument("file", type=Path, help="a program file, a folder that 'sdp run' made, or an ONNX file")
        if verb == "energy":
            sub.add_argument("file", type=Path, help="a folder that 'sdp run' made, a program file, or an ONNX file (every layer with all its terms)")
            sub.add_argument("--power", type=Path, help="what 'sdp power' wrote (default: build/CONFIG/power.json where it exists)")
            sub.add_argument("--basis", choices=("published", "library"), help="of the table; the file has both (default: library with a power report)")
        if verb == "power":
            sub.add_argument("--clock", type=_frequency, help="MHz (default: 100)")
            sub.add_argument("--model", type=Path, help="an ONNX file, with --test and --calibration (default: the network of the demonstration)")
            sub.add_argument("--test", type=Path, help="npz with images x")
            sub.add_argument("--calibration", type=Path, help="npz with images x")
            sub.add_argument("--preprocess", default="none", help="as for run (default: %(default)s)")
        if verb == "compare":
            sub.add_argument("--only", default="", help="networks whose name contains this")
            sub.add_argument("--images", type=_positive, help="of each test set (default: all)")
            sub.add_argument("--joined", action="store_true", help="join what was searched before, search nothing")
            sub.add_argument("--finetune", action="store_true", help="train each method's cheapest networks as well (PyTorch, hours)")
            sub.add_argument("--liberty", type=Path, help="cell library, a .lib file; with it areas are measured that are not there yet")
            sub.add_argument("--document", type=Path, default=Path("docs") / "comparison.md", help="default: %(default)s")
        if verb in ("fuzz", "diff"):
            sub.add_argument("--case", help="one layer, as a failure report names it: 'seed=1 kernel_h=3 ...'")
    return parser


def _run_arguments(sub):
    sub.add_argument("--test", type=Path, required=True, help="npz with images x and labels y")
    sub.add_argument("--calibration", type=Path, required=True, help="npz with images x, of which none should be a test image")
    sub.add_argument("--preprocess", default="none", help="none, raw, cifar10-resnet20, or 'scale=1/255 mean=.5,.5,.5 std=.2,.2,.2' (default: %(default)s)")
    sub.add_argument("--max-loss", type=_loss, default=1.0,
                     help="accuracy that may be lost, in percentage points; 0: exact 8 bit, nothing is searched (default: %(default)s)")
    sub.add_argument("--reference", type=Path, help="the float network that accuracy is compared with, an ONNX file (default: MODEL itself)")
    sub.add_argument("--images", type=_positive, help="how many test images (default: all)")
    sub.add_argument("--rtl-images", type=_positive, default=10, help="how many of them on the simulated hardware (default: %(default)s)")
    sub.add_argument("--calibration-images", type=_positive, help="how many calibration images (default: all)")


def _finetune_arguments(sub):
    sub.add_argument("--train", type=Path, required=True, help="npz with images x and labels y")
    sub.add_argument("--calibration", type=Path, required=True, help="npz with images x, from which the network before training is made")
    sub.add_argument("--preprocess", default="none", help="as for run (default: %(default)s)")
    modes = sub.add_mutually_exclusive_group()
    modes.add_argument("--budget", type=_positive, help="of all convolutions but the first and the last one; all weights have one digit")
    modes.add_argument("--modes", type=Path, help='JSON, {"layer": [budget, true for weights of one digit]}; others stay exact 8 bit')
    sub.add_argument("--edge-budget", type=_positive, default=16,
                     help="with --budget: of the first and the last convolution (default: %(default)s)")
    sub.add_argument("--max-loss", type=_some_loss, default=4.0,
                     help="without --budget and --modes: they are searched, with this loss in points before training (default: %(default)s)")
    sub.add_argument("--epochs", type=_positive, default=20, help="default: %(default)s")
    sub.add_argument("--rate", type=float, default=5e-4, help="learning rate at its peak (default: %(default)s)")
    sub.add_argument("--average", type=float, default=0.995, help="of the parameters' running mean, which is what comes out; 0: the last ones (default: %(default)s)")
    sub.add_argument("--batch", type=_positive, default=64, help="images per step (default: %(default)s)")
    sub.add_argument("--hold", type=_positive, default=1000, help="training images that are only measured on (default: %(default)s)")
    sub.add_argument("--augment", choices=("auto", "crop-flip", "none"), default="auto",
                     help="crops and mirror images; auto: for square images of three channels (default: %(default)s)")
    sub.add_argument("--threads", type=_positive, default=1, help="of PyTorch; other numbers may round otherwise (default: %(default)s)")
    sub.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")


def _loss(text):
    value = float(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{value}, but must be from 0 to 100 points")
    return value


def _some_loss(text):
    """For a search: it finds nothing faster than exact 8 bit where nothing may be lost."""
    if not (value := _loss(text)):
        raise argparse.ArgumentTypeError("0, but must be above 0: a search needs something to lose")
    return value


def _frequency(text):
    value = float(text)
    if not 0 < value < 1e5:
        raise argparse.ArgumentTypeError(f"{value:g}, but must be above 0 and below 100000 MHz")
    return value


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}, but must be at least 1")
    return value


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0, 1 for what the message on stderr says, 2 for a command that cannot be understood."""
    args = _parser().parse_args(argv)
    try:
        args.config = load(args.config)
        return VERBS[args.verb][0](args) or 0
    except (UserError, OSError) as error:
        print(f"sdp {args.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
