"""Simulation of mapped netlists with the delays and energies of their cells."""
