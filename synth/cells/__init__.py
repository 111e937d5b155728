"""From Verilog to mapped bodies: the library, the hierarchy, Yosys, drive strengths, memories."""
