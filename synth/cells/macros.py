"""Timing of the memories as black boxes.

No macro is generated: each memory is taken for a synchronous SRAM, split as wide words are, with the clock-to-output delay that the
foundry of sg13g2 publishes for macros of that depth. Source: IHP-Open-PDK, ihp-sg13g2/libs.ref/sg13g2_sram/lib, RM_IHPSG13_*_typ_1p20V_25C.lib,
cell_rise of A_DOUT at a clock slew of 6 ps and the largest load, 0.064 pF: 64x32 3.18, 256x64 3.16, 512x64 3.91, 1024x64 4.43, 2048x64 5.48 ns.
Between them: linear. Deeper memories: banks of 2048 words, whose multiplexer is not counted. Setup: the largest of A_MEN (0.30 ns); addresses need less.
Other libraries: assumed the same, which is pessimistic for smaller nodes.
"""

CLOCK_TO_OUTPUT = ((64, 3.18), (256, 3.18), (512, 3.91), (1024, 4.43), (2048, 5.48))
"""ns by words"""
SETUP = 0.30
LOAD, DRIVE = 0.010, 0.064
"""pF: of an input (the largest address bit is 0.011), and what an output may drive"""
SLEW = 0.15
"""ns, rise_transition at the largest load"""


_HEADER = """\
library (memories) {
delay_model : table_lookup; time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1mA"; capacitive_load_unit (1, pf);
pulling_resistance_unit : "1kohm"; leakage_power_unit : "1nW"; nom_voltage : 1.2; nom_temperature : 25; nom_process : 1;
input_threshold_pct_rise : 50; input_threshold_pct_fall : 50; output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;
slew_lower_threshold_pct_rise : 20; slew_lower_threshold_pct_fall : 20; slew_upper_threshold_pct_rise : 80; slew_upper_threshold_pct_fall : 80;"""


def clock_to_output(words: int) -> float:
    for (low, fast), (high, slow) in zip(CLOCK_TO_OUTPUT, CLOCK_TO_OUTPUT[1:], strict=False):
        if words <= high:
            return fast + (slow - fast) * max(0, words - low) / (high - low)
    return CLOCK_TO_OUTPUT[-1][1]


def memories_liberty(memories: dict[str, tuple[int, dict]]) -> str:
    """A library with a cell per module: ``{module: (words, {port: (direction, bits)})}``; the port ``clk`` is its clock."""
    cells, widths = [], sorted({bits for _, ports in memories.values() for _, bits in ports.values()})
    for module, (words, ports) in memories.items():
        pins = []
        for name, (direction, bits) in ports.items():
            kind = f'bus ("{name}") {{ bus_type : bus{bits};'
            if name == "clk":
                pins.append(f'pin ("{name}") {{ direction : input; clock : true; capacitance : {LOAD}; }}')
            elif direction == "input":
                edges = "".join(f' {edge}_constraint (scalar) {{ values ("{SETUP}"); }}' for edge in ("rise", "fall"))
                pins.append(f'{kind} direction : input; capacitance : {LOAD}; timing () {{ related_pin : "clk"; timing_type : setup_rising;{edges} }} }}')
            else:
                delays = "".join(f' {value} (scalar) {{ values ("{number:g}"); }}' for value, number in (
                    ("cell_rise", clock_to_output(words)), ("cell_fall", clock_to_output(words)), ("rise_transition", SLEW), ("fall_transition", SLEW)))
                pins.append(f'{kind} direction : output; max_capacitance : {DRIVE}; timing () {{ related_pin : "clk"; timing_type : rising_edge;{delays} }} }}')
        cells.append(f'cell ("{module}") {{ area : 0; interface_timing : true;\n  ' + "\n  ".join(pins) + "\n}")
    types = "\n".join(
        f"type (bus{bits}) {{ base_type : array; data_type : bit; bit_width : {bits}; bit_from : {bits - 1}; bit_to : 0; downto : true; }}" for bits in widths)
    return "\n".join([_HEADER, types, *cells, "}"]) + "\n"
