"""How often each backend runs, and who runs when. Runs inside the target, for bench.py."""

import random
from typing import Dict, List


def plan(
    milliseconds: Dict[str, float], budget: float, least: int, most: int, longest: float
) -> Dict[str, int]:
    """Return how often each backend runs: ``budget`` seconds' worth, from ``least`` to ``most`` times.

    ``longest`` is what the runs of one backend may take, in seconds; beyond it there are fewer than ``least``.
    """
    counts = {}
    for name, each in milliseconds.items():
        seconds = max(each, 1e-3) / 1e3
        wanted = max(least, min(most, int(budget / seconds)))
        counts[name] = max(1, min(wanted, int(longest / seconds)))
    return counts


def by_turns(counts: Dict[str, int]) -> List[str]:
    """Return who runs when: by turns, those with fewer runs spread evenly over all rounds, each round in another order.

    A clock that drifts then hits all alike. The order is drawn by lot, since in a fixed one somebody always follows the
    one that heats most: on an H200 one and the same kernel took 13 % longer behind such a neighbour.
    """
    chance = random.Random(len(counts))
    order = list(counts)
    rounds = max(counts.values(), default=0)
    turns = []
    for number in range(rounds):
        chance.shuffle(order)
        for name in order:
            if (number + 1) * counts[name] // rounds > number * counts[name] // rounds:
                turns.append(name)
    return turns
