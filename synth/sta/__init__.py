"""Static timing: OpenSTA, and what a path is compared with."""
