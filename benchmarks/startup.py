"""``sagefix --help`` against ``pip --help``."""

from __future__ import annotations

from benchmarks.measure import Part, Way, alternate, compare
from benchmarks.surroundings import Asked, environment, pip, sagefix

TARGET = 1.0


def compare_help(asked: Asked) -> Part:
    """Time the start of both programs."""
    env = environment(asked.scratch)
    ways = [
        Way(name="sagefix --help", command=(*sagefix(), "--help"), env=env),
        Way(name="pip --help", command=(*pip(), "--help"), env=env),
    ]
    runs = alternate(ways, runs=asked.runs)
    return Part(name="help", rows=(compare("help", ways[0].name, ways[1].name, runs, target=TARGET),))
