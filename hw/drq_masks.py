"""DRQ's masks in the shell: predicted behind the output stage, kept in a memory, read beside the activations."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.controller import mask_layout
from hw.sensitivity_predictor import MaskMemory, SensitivityPredictor
from hw.types import layer_layout
from sdp.config import Config


class Masks(wiring.Component):
    """The predictor and its memory, with the fields of the layer's header.

    Latency: ``data`` one cycle after ``read``; ones where the layer has no masks.

    Members
    -------
    layer, start : In; valid, codes : In, ``outputs`` codes that are written
    read : In, from ``Controller``; data : Out, a bit per code of the word
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "layer": In(layer_layout(config)), "start": In(1), "valid": In(1), "codes": In(data.ArrayLayout(8, config.outputs)),
            "read": In(mask_layout(config)), "data": Out(config.word),
        })

    def elaborate(self, platform):
        m = Module()
        layer = self.layer
        m.submodules.predictor = predictor = SensitivityPredictor(self.config)
        m.submodules.memory = memory = MaskMemory(self.config)
        settings = predictor.settings
        masked = Signal()
        m.d.sync += masked.eq(self.read.valid)
        m.d.comb += [
            predictor.start.eq(self.start), predictor.layer.eq(layer), predictor.valid.eq(self.valid), predictor.codes.eq(self.codes),
            settings.predict.eq(layer.predict), settings.base.eq(layer.predict_base), settings.plane.eq(layer.predict_plane),
            settings.pitch.eq(layer.predict_pitch), settings.threshold.eq(layer.threshold), settings.region_h.eq(layer.region_h),
            settings.region_w.eq(layer.region_w),
            memory.write_mask.eq(predictor.write_mask), memory.write_address.eq(predictor.write_address), memory.write_data.eq(predictor.write_data),
            memory.read_enable.eq(self.read.valid), memory.read_address.eq(self.read.address),
            self.data.eq(Mux(masked, memory.read_data, (1 << self.config.word) - 1)),
        ]
        return m
