"""MAC array: ``rows`` output pixels times ``columns`` output channels of processing elements."""

from amaranth import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.processing_element import ProcessingElement
from hw.types import slot_layout, sums_layout, term_layout
from sdp.config import Config


class MacArray(wiring.Component):
    """Rows share a column's weights, columns share a row's terms.

    Finished sums are captured by all elements at once and leave row by row: ``drain`` shows row 0, each ``shift`` brings the next.
    The next tile accumulates meanwhile.

    Members
    -------
    terms : In, rows x lanes terms
    weights : In, columns x (lanes * group) slots; stable while the terms of their step arrive
    first : In, these terms begin a new sum; capture, shift : In, see ``ProcessingElement``
    drain : Out, columns x two sums, of the row whose turn it is
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "terms": In(data.ArrayLayout(data.ArrayLayout(term_layout(config.group), config.lanes), config.rows)),
            "weights": In(data.ArrayLayout(data.ArrayLayout(slot_layout(config), config.word), config.columns)),
            "first": In(1),
            "capture": In(1),
            "shift": In(1),
            "drain": Out(data.ArrayLayout(sums_layout(config), config.columns)),
        })

    def elaborate(self, platform):
        m = Module()
        for column in range(self.config.columns):
            below = None
            for row in reversed(range(self.config.rows)):
                pe = m.submodules[f"pe_{row}_{column}"] = ProcessingElement(self.config)
                m.d.comb += [
                    pe.terms.eq(self.terms[row]),
                    pe.slots.eq(self.weights[column]),
                    pe.first.eq(self.first),
                    pe.capture.eq(self.capture),
                    pe.shift.eq(self.shift),
                ]
                if below is not None:
                    m.d.comb += pe.chain.eq(below)
                below = pe.drain
            m.d.comb += self.drain[column].eq(below)
        return m
