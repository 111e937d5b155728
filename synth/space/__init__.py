"""The parts of a sweep: grid, tasks and their cache, fronts, plots."""
