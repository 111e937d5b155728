"""The unit tests see what is broken: each line of the table changes one place of a unit's source, and the unit's test must fail.

``python -m tests.test_mutations`` prints which of its tests failed, for every line.
"""

import importlib
import types
from pathlib import Path

import pytest

from sim.cocotb_runner import SimulationError
from tests.sizes import DENSE, NARROW, PLAIN, UNIT, WIDE
from tests.units import simulate

CLASSES = {"nibble_multiplier": "NibbleMultiplier", "processing_element": "ProcessingElement", "mac_array": "MacArray", "dense_array": "DenseArray",
           "operand_buffer": "OperandBuffer",
           "convolution_unit": "ConvolutionUnit", "channel_unit": "ChannelUnit", "output_stage": "OutputStage", "drain": "Drain",
           "controller": "Controller", "drq_controller": "Controller", "decoder": "CommandDecoder", "registers": "Registers", "activation_memory": "ActivationMemory"}

INT4, INT8, INT16 = DENSE[:3]
WIDE8 = next(c for c in DENSE if c.name == "wide-int8")

# unit, file of hw/, what stands there, what is put in its place, configuration
MUTATIONS = [
    ("nibble_multiplier", "nibble_multiplier", "small << 4, small", "small << 3, small", UNIT),
    ("nibble_multiplier", "nibble_multiplier", "shifted ^ negative.replicate(len(shifted))", "shifted", UNIT),
    ("term_select_4", "term_select", "~left[:i].any()", "~left[i + 1:].any()", UNIT),
    ("term_select_5", "term_select", "rest.eq(Mux(some, having, left))", "rest.eq(having)", UNIT),
    ("term_select_4", "term_select", "reversed(range(4))", "range(4)", UNIT),
    ("term_select_4", "term_select", "m.d.sync += held[i].low.eq(0)", "m.d.sync += held[i].low.eq(held[i].low)", UNIT),
    ("term_select_2", "term_select", "with m.If(self.load):", "with m.If(self.load & ~self.take):", UNIT),
    ("term_select_8", "term_select", "Mux(is_high, code.high[bit], code.low[bit])", "Mux(is_high, code.high[bit], code.low[bit] if bit < 3 else 0)", UNIT),
    ("term_select_4", "term_select", "Mux(self.take, Cat(largest), 0)", "Mux(1, Cat(largest), 0)", UNIT),
    ("nibble_multiplier", "nibble_multiplier", "self.negative_term ^ self.digit.negative", "self.negative_term | self.digit.negative", UNIT),
    ("term_select_4", "term_select", "(negatives & which).any()", "negatives.any()", UNIT),
    ("nibble_multiplier", "nibble_multiplier", "small << 4, small", "small << 3, small", PLAIN[0]),
    ("nibble_multiplier", "nibble_multiplier", "eight.eq(self.digit.negative & ", "eight.eq(0 & ", PLAIN[0]),
    ("processing_element", "processing_element", "product_shape(self.config).width + bits_for", "product_shape(self.config).width - 2 + bits_for", PLAIN[1]),
    ("processing_element", "processing_element", "total, base = Signal(signed(len(before))", "total, base = Signal(signed(len(before) - 1)", PLAIN[0]),
    ("processing_element", "processing_element", "return partial, still", "return partial, owed", UNIT),
    ("processing_element", "processing_element", "Mux(first, 0, before)", "before", UNIT),
    ("processing_element", "processing_element", "with m.If(self.capture):", "with m.If(self.capture & ~self.shift):", UNIT),
    ("processing_element", "processing_element", "self.slots[lane * group + i]", "self.slots[i]", UNIT),
    ("processing_element", "processing_element", "total, base = Signal(signed(len(before))", "total, base = Signal(signed(len(before) - 1)", UNIT),
    ("mac_array", "mac_array", "self.weights[column]", "self.weights[0]", UNIT),
    ("mac_array", "mac_array", "reversed(range(self.config.rows))", "range(self.config.rows)", UNIT),
    ("dense_array", "dense_array", "Mux(self.first, 0,", "Mux(0, 0,", UNIT),
    ("dense_array", "dense_array", "held[row][lane][i + 1]", "held[row][lane][i]", UNIT),
    ("dense_array", "dense_array", "(current.weight_address + 1) * group - left + 1", "current.weight_address * group + left", UNIT),
    ("dense_array", "dense_array", "i < self.layer.in_tail", "i <= self.layer.in_tail", UNIT),
    ("operand_buffer", "convolution_unit", "i < self.tail", "i <= self.tail", UNIT),
    ("operand_buffer", "convolution_unit", "Mux(negative, -byte, byte)", "byte", UNIT),
    ("operand_buffer", "convolution_unit", "strip * ports + port", "strip * ports + (port ^ 1)", UNIT),
    ("convolution_unit", "convolution_unit", "begins & current.first", "begins", UNIT),
    ("convolution_unit", "convolution_unit", "self.captured.eq(finished)", "self.captured.eq(ends & current.last)", UNIT),
    ("convolution_unit", "convolution_unit", "& (self.layer.kind == Kind.CONV)", "", UNIT),
    ("convolution_unit", "convolution_unit", "self.weight_enable.eq(loading.valid)", "self.weight_enable.eq(take)", UNIT),
    ("convolution_unit", "dense_unit", "Mux(self.first, 0, sums[name])", "sums[name]", INT4),
    ("convolution_unit", "dense_unit", "Mux(self.high, products << 4, products)", "products << 4", INT4),
    ("convolution_unit", "dense_unit", "self.layer.w4 & slot[3]", "slot[3]", INT4),
    ("convolution_unit", "dense_unit", "Mux(held[8], -nibble, nibble)", "nibble", INT4),
    ("convolution_unit", "dense_unit", "moves.eq(~double | left[0])", "moves.eq(1)", INT4),
    ("convolution_unit", "dense_unit", "high.eq(double & left[0])", "high.eq(left[0])", INT4),
    ("convolution_unit", "dense_unit", "with m.Elif(self.shift):", "with m.If(self.shift):", INT4),
    ("convolution_unit", "dense_unit", "index.eq(0), current", "current", WIDE8),
    ("convolution_unit", "dense_unit", "begins & current.first", "begins", INT8),
    ("convolution_unit", "dense_unit", "magnitude=nibbles", "magnitude=True", INT8),
    ("convolution_unit", "dense_unit", "& (self.layer.kind == Kind.CONV)", "", INT8),
    ("convolution_unit", "dense_unit", "slot.as_signed()", "slot", INT16),
    ("channel_unit", "channel_unit", "tap[:9].as_signed()", "tap[:8].as_signed()", UNIT),
    ("channel_unit", "channel_unit", "seen & ~step.first", "seen", UNIT),
    ("channel_unit", "channel_unit", "with m.If(self.captured):", "with m.If(1):", UNIT),
    ("output_stage", "output_lane", "window[0] & (sticky | Mux(layer.ties_even, window[1], ~negative))", "window[0]", UNIT),
    ("output_stage", "output_lane", "Mux(layer.ties_even, window[1], ~negative)", "~negative", UNIT),
    ("output_stage", "output_lane", "Mux(layer.ties_even, window[1], ~negative)", "Mux(layer.ties_even, ~window[1], ~negative)", UNIT),
    ("output_stage", "output_lane", "wide[:by].any()", "wide[1:by].any()", UNIT),
    ("output_stage", "output_lane", "wide[width - 1 :] ^ sign.replicate(len(wide) - width + 1)", "wide[width:] ^ sign.replicate(len(wide) - width)", UNIT),
    ("output_stage", "output_lane", "self.high << 4", "self.high << 3", UNIT),
    ("output_stage", "output_lane", "register(SPLIT + 1,", "register(SPLIT,", UNIT),
    ("output_stage", "output_lane", "addend_3 + (lower >> half)", "(lower >> half)", UNIT),
    ("output_stage", "output_lane", "layer.residual_signed & self.residual[7]", "self.residual[7]", UNIT),
    ("output_stage", "output_lane", "rounded > layer.clamp_high", "rounded > layer.clamp_high + 1", UNIT),
    ("output_stage", "output_lane", "rounded < layer.clamp_low", "rounded < layer.clamp_low - 1", UNIT),
    ("output_stage", "output_stage", "Mux(layer.w4, 0, sums.high)", "sums.high", WIDE),
    ("drain", "drain", "x + in_strip < layer.out_w", "x + in_strip <= layer.out_w", UNIT),
    ("drain", "drain", "here.channel < layer.out_channels", "here.channel <= layer.out_channels", UNIT),
    ("drain", "drain", "Mux(word_ends, layer.out_plane, 0)", "0", UNIT),
    ("drain", "drain", "here.eq(after), block.eq(after)", "here.eq(after)", UNIT),
    ("controller", "controller", "in_x < layer.in_w", "in_x <= layer.in_w", UNIT),
    ("controller", "controller", "tile_last_step & (drain_left != 0)", "tile_last_step & (drain_left > 1)", UNIT),
    ("controller", "controller", "row_offset + layer.in_w", "row_offset + layer.in_w + 1", UNIT),
    ("controller", "controller", "steps == config.steps_max", "steps == config.steps_max + 1", NARROW),
    ("decoder", "decoder", "idle | ~header[0][8]", "idle", UNIT),
    ("decoder", "decoder", "stored.level + coming < stored.depth", "stored.level < stored.depth", UNIT),
    ("decoder", "decoder", "(tail > config.word)", "(tail > config.word + 1)", UNIT),
    ("decoder", "decoder", "Mux(i < tail, self.read_data[i], 0)", "self.read_data[i]", UNIT),
    ("decoder", "decoder", "coming_last.eq(count == 1)", "coming_last.eq(count == 2)", UNIT),
    ("registers", "registers", "starving.eq(Mux(self.starved, starving + 1, 0))", "starving.eq(starving + self.starved)", UNIT),
    ("registers", "registers", "& ~self.running & (error == 0)", "& (error == 0)", UNIT),
    ("registers", "registers", "(layer_counts[\"cycles\"] + 1)", "(layer_counts[\"cycles\"])", UNIT),
    ("registers", "registers", "**{name: getattr(self, name) for name in reg.TRAFFIC}", "", UNIT),
    ("stream_memory", "stream_memory", "self.write_beat == n", "self.write_beat >= n", UNIT),
    ("stream_memory", "stream_memory", "read.en.eq(self.read_enable & ~self.read_few if n >= self.few else self.read_enable)", "read.en.eq(self.read_enable)", UNIT),
    ("activation_memory", "activation_memory", "8 * self.config.outputs", "8 * self.config.word", UNIT),
    ("activation_memory", "activation_memory", "read.en.eq(0)", "read.en.eq(1)", UNIT),
    ("activation_memory", "activation_memory", "sum(self.write_mask)", "self.write_mask.any()", UNIT),
    ("activation_memory", "activation_memory", "Mux(valid, select(", "Mux(1, select(", UNIT),
    ("activation_memory", "activation_memory", " | address[-1] << bank_bits", "", UNIT),
]


def mutant(unit, file, old, new):
    """The unit's factory, from source with one place changed."""
    original = importlib.import_module(f"hw.{file}")
    source = Path(original.__file__).read_text()
    assert source.count(old) >= 1, f"hw/{file}.py has no {old!r} any more: bring the table up to date"
    module = types.ModuleType(f"mutant_{file}")
    exec(compile(source.replace(old, new), original.__file__, "exec"), module.__dict__)
    if unit.startswith("term_select"):
        return lambda config: module.TermSelector(group=int(unit.rsplit("_", 1)[1]))
    if unit == "stream_memory":
        return lambda config: module.StreamMemory(width=config.weight_bits, depth=config.weight_words, beat=config.stream_bits, few=config.depthwise_beats)
    if unit == "nibble_multiplier":
        return module.NibbleMultiplier
    if file == "dense_unit":
        return module.DenseUnit
    if file == "output_lane":
        stage = types.ModuleType("mutant_output_stage")
        exec(compile(Path(original.__file__).with_name("output_stage.py").read_text(), "output_stage.py", "exec"), stage.__dict__)
        stage.OutputLane = module.OutputLane
        return stage.OutputStage
    return getattr(module, CLASSES[unit])


@pytest.mark.parametrize("unit, file, old, new, config", [pytest.param(*m, id=f"{m[0]}: {m[2]} -> {m[3]}") for m in MUTATIONS])
def test_mutation_is_caught(unit, file, old, new, config, tmp_path):
    with pytest.raises(SimulationError, match=r"failed: \w"):
        simulate(unit, "icarus", config, make=mutant(unit, file, old, new), build=tmp_path)


if __name__ == "__main__":
    import tempfile

    for unit, file, old, new, config in MUTATIONS:
        try:
            with tempfile.TemporaryDirectory() as folder:
                simulate(unit, "icarus", config, make=mutant(unit, file, old, new), build=Path(folder))
            print(f"SURVIVED {unit}: {old} -> {new}", flush=True)
        except SimulationError as error:
            print(f"caught by {str(error).splitlines()[0].rsplit(':', 1)[-1].strip()}: {unit}: {old} -> {new}", flush=True)
