"""Lattice ECP5: synthesis, place and route."""
