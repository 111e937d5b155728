"""The golden model: integer NumPy, bit-exact, cycle-exact. It imports neither Amaranth nor files."""
