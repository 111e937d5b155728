"""Configurations of the unit tests. They are frozen here, so that those that users choose can change."""

import dataclasses

from sdp.config import Config

# Every size differs from every other, and few are powers of two.
UNIT = Config(name="unit", group=4, lanes=3, rows=6, columns=5, ports=2, outputs=1, reduction=1536, activation_words=1024, weight_words=160,
              scale_words=128, scale_bits=18, log_layers=8)
# One port, one strip per row, several outputs per cycle, the narrowest scales.
NARROW = Config(name="narrow", group=2, lanes=6, rows=3, columns=6, ports=1, outputs=3, reduction=36, activation_words=64, weight_words=9, scale_words=20,
                scale_bits=8, log_layers=1)
# Bank conflicts of every kind, group of no power of two, the widest scales, all columns at once.
WIDE = Config(name="wide", group=5, lanes=4, rows=8, columns=4, ports=8, outputs=4, reduction=160, activation_words=512, weight_words=40, scale_words=30,
              scale_bits=31, log_layers=4)
ALL = (UNIT, NARROW, WIDE)
PLAIN = tuple(dataclasses.replace(c, name=f"{c.name}-plain", array="sdp-plain") for c in ALL)
DENSE = tuple(dataclasses.replace(c, name=f"{c.name}-{array}", array=array) for c in ALL for array in ("int4", "int8", "int16"))
