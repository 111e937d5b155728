"""What a sweep computes, in tasks by what each follows from: areas of configurations, accuracies of networks, time and energy of both together."""

import functools
from dataclasses import dataclass

import numpy as np

from compiler import ablation, quantize, schedule
from compiler.flow import Samples
from compiler.loss import clustered, float_logits, loss
from compiler.network import Network, NetworkError
from compiler.quantized import QuantizedLayer
from compiler.residency import Part
from compiler.sensitivity import convolutions
from compiler.tile import whole_layer
from golden.cycles import layer_cycles
from golden.parallel import one_blas_thread
from hw.accelerator import Accelerator
from hw.verilog import export
from sdp import UserError
from sdp.config import Config
from sdp.program import Kind
from sim import accuracy, data, flow
from synth import area, energy
from synth.cells.cell_library import CellLibrary
from synth.cells.yosys import YosysError, yosys_version
from synth.space.grid import Source
from synth.space.task_cache import code, file_hash

PASSES = ablation.STEPS[-2]
"""Of networks with one budget in all layers: what the compiler does for accuracy, with half of the importance."""
BATCH = 64
CAUSES = ("used", "lanes", "columns", "rows", "beats", "drain", "fill")
HERE = "synth/space/tasks.py"


def sizes(config: Config) -> dict:
    return {name: value for name, value in config.parameters().items() if name != "name"}


def causes(config: Config, layer: QuantizedLayer) -> dict[str, float]:
    """Where the cycles of a convolution go; they add up to all of them.

    ``used``: by terms of codes that are there. The rest, one after the other: ``lanes`` without a channel, ``columns`` without an output channel,
    ``rows`` without a pixel, ``beats`` in which reads outlast the budget, ``drain``: the output stage outlasts a tile, ``fill``: first reads, pipeline,
    the last tile's outputs.
    """
    c = layer_cycles(config, whole_layer(config, Part(layer, 0, layer.out_shape[2]), {}))
    tiles, blocks = layer.out_shape[0] * layer.out_shape[1] / config.rows, layer.out_shape[2] / config.block(layer.w4)
    step = c.steps * layer.budget
    sums = [layer.macs * layer.budget / config.group * (1 if layer.w4 else 2) / config.nibble_multipliers, tiles * blocks * step,
            tiles * -(-layer.out_shape[2] // config.block(layer.w4)) * step, c.tiles * step, c.tiles * c.steps * c.step,
            c.steps * c.step + (c.tiles - 1) * c.tile, c.total]
    return {name: now - before for name, before, now in zip(CAUSES, [0, *sums], sums)}


@dataclass(frozen=True)
class Area:
    """Of a configuration, in the unit of the library, memories as bits."""

    config: Config
    library: CellLibrary

    def follows(self) -> dict:
        return {"config": sizes(self.config), "library": self.library.digest, "yosys": yosys_version(),
                "code": code("hw/accelerator.py", "hw/verilog.py", "synth/area.py", alone=(HERE,))}

    def run(self) -> tuple[dict, bool]:
        try:
            found = area.measure(self.config, self.library, export(Accelerator(self.config), area.TOP)).as_json()
        except YosysError as error:
            return {"reason": str(error)}, False
        return {"area": found["total"], "array": found["array"], "per_multiplier": found["array_per_nibble_multiplier"],
                "to_dense": found["ratio_to_dense_int4"], "unit": found["unit"], "library": found["library"],
                "selector_share": found["selector_share_of_array"], "memory_bits": found["memory_bits"],
                "units": {unit["name"]: unit["area"] for unit in found["units"]}}, True


def modes(names: list[str], group: int, budget: int, w4: bool) -> dict[str, tuple[int, bool]]:
    """One budget for all convolutions; all terms, in weights of two digits, for the first and the last one."""
    return {name: (budget, w4) for name in names} | {name: (2 * group, False) for name in (names[0], names[-1])}


def images(source: Source, network: Network, calibration: int, test: int) -> tuple[data.Data, data.Data]:
    """Calibration and test images, the first ones of each."""
    if not source.test:
        from examples.digits.data import load

        split = load()
        return [data.Data(part.images[:count], part.labels[:count]) for part, count in ((split["calibration"], calibration), (split["test"], test))]
    rule, classes = data.preprocessing(source.preprocess), int(np.prod(network.shapes()[network.nodes[-1].name]))
    return (data.load(source.calibration, network.input_shape, rule, classes=classes, limit=calibration, what="calibration data", labels_optional=True),
            data.load(source.test, network.input_shape, rule, classes=classes, limit=test, what="test data"))


@dataclass(frozen=True)
class Accuracy:
    """Of a network with groups of ``config.group`` codes and the digits of ``config.array``; other sizes do not matter, but to the search.

    ``expected_loss``, points of accuracy beyond exact 8 bit, and ``expected_error``, its standard error, are what anything is chosen by: the compiler's
    estimate (:mod:`compiler.loss`) on a quarter of the calibration images, and blends of them, which the network was not fitted to. ``accuracy``, on
    test images, with its 95 % interval, is what is reported. ``budget``: none for the compiler's mixture, which may lose ``max_loss`` points; the
    search holds the same quarter back and fits to all images once it has chosen.
    """

    source: Source
    config: Config
    budget: int | None
    w4: bool
    images: int
    calibration: int
    max_loss: float

    def follows(self) -> dict:
        files = {name: file_hash(path) for name, path in zip(("model", "test", "calibration"), self.source.files)}
        config = sizes(self.config) if self.budget is None else {"group": self.config.group, "scale_bits": self.config.scale_bits,
                                                                                          "array": self.config.array}
        return {"files": files, "preprocess": self.source.preprocess, "config": config, "budget": self.budget, "w4": self.w4, "images": self.images,
                "calibration": self.calibration, "max_loss": self.max_loss if self.budget is None else None,
                "code": code("compiler/ablation.py", "compiler/flow.py", "sim/flow.py", "sim/data.py", "sim/accuracy.py", "examples/digits/data.py",
                             alone=(HERE,))}

    def run(self) -> tuple[dict, bool]:
        try:
            network = flow.read(self.source.model)
            fit, test = images(self.source, network, self.calibration, self.images)
            with one_blas_thread():
                samples = Samples.of(network, fit.images, fit.labels)
                seen, held = samples.images[: samples.fit], samples.images[samples.fit :]
                if self.budget is None:
                    made = flow.choose(network, fit.images, fit.labels, self.config, self.max_loss).sdp
                else:
                    made = ablation.build(network, seen, self.config, PASSES, self.budget, self.w4, 2 * self.config.group)
                wanted, exact = float_logits(network, held), quantize.quantize(quantize.calibrate(network, seen), self.config)
                lost, base = (loss(wanted, self._logits(each, held), samples.temperature) for each in (made, exact))
                right = self._logits(made, test.images).argmax(axis=1) == test.labels
        except (UserError, NetworkError) as error:
            return {"reason": str(error)}, True
        hits, count, lost = int(right.sum()), len(right), lost.beyond(base)
        low, high = accuracy.wilson(hits, count)
        found = {layer.name: (layer.budget, layer.w4) for layer in made.layers if layer.kind is Kind.CONV}
        return {"images": count, "accuracy": 100 * hits / count, "low": low, "high": high, "expected_loss": lost.points,
                "expected_error": clustered(lost.lost, samples.sources), "modes": found}, True

    def _logits(self, made, values):
        return accuracy.batches(lambda part: flow.logits(made, part, self.config), values, BATCH) * made.layers[-1].out_scale


@functools.lru_cache(maxsize=8)
def skeleton(model: str, digest: str) -> quantize.Calibration:
    """The network, calibrated on random images: sizes are what counts. ``digest``: of the file, so that another one is another entry."""
    network = flow.read(model)
    return quantize.calibrate(network, np.random.default_rng(0).random((2, *network.input_shape), dtype=np.float32))


@dataclass(frozen=True)
class Cost:
    """Cycles, exact, and energy of a network on a configuration, per image, programs and transfers included.

    ``cycles``: of the frame's programs, loads and stores of images and weights included, on streams that never wait; ``layer_cycles``: of the
    layers alone; ``conv_cycles``: of whole convolutions by the formula, as if all tensors fitted, and ``causes`` of these.
    """

    config: Config
    source: Source
    budget: int | None
    w4: bool
    mixture: tuple[tuple[str, int, bool], ...]
    basis: str

    def follows(self) -> dict:
        return {"config": sizes(self.config), "model": file_hash(self.source.model), "budget": self.budget, "w4": self.w4, "mixture": self.mixture,
                "basis": self.basis, "code": code("compiler/schedule.py", "sim/flow.py", "synth/energy.py", alone=(HERE, "synth/energy_constants.toml"))}

    def run(self) -> tuple[dict, bool]:
        config = self.config
        try:
            calibration = skeleton(self.source.model, file_hash(self.source.model))
            names = convolutions(quantize.quantize(calibration, config))
            chosen = {name: (budget, w4) for name, budget, w4 in self.mixture} or modes(names, config.group, self.budget, self.w4)
            network = quantize.quantize(calibration, config, chosen)
            compiled = schedule.compile(network, config)
        except (UserError, NetworkError) as error:
            return {"reason": str(error)}, True
        whole = energy.total(energy.energy(config, compiled.commands(), energy.Constants(self.basis)))
        summed = [layer for layer in network.layers if layer.kind is Kind.CONV]
        lost = [causes(config, layer) for layer in summed]
        return {"cycles": sum(step.cycles for step in compiled.passes), "layer_cycles": whole.cycles, "programs": len(compiled.passes),
                "conv_cycles": sum(schedule.cycles(config, layer) for layer in summed), "conv_macs": sum(layer.macs for layer in summed),
                "causes": {name: sum(part[name] for part in lost) for name in CAUSES},
                "energy_nj": whole.total.value / 1e3, "energy_nj_low": whole.total.low / 1e3, "energy_nj_high": whole.total.high / 1e3,
                "energy_parts": {name: part.value / 1e3 for name, part in whole.parts.items()}}, True
