"""Which rows of queries are compared with a reference where all of them would take too long."""

import random
from typing import List


def sampled(rows: int, wanted: int, seed: int) -> List[int]:
    """Return indices of rows, sorted: all up to twice as many as are wanted, and at least up to 256.

    Of more, always the first and the last, those around powers of two (where an index or a product of sizes
    overflows) and at the borders of tiles of 64 and 128, and as many others by chance as are left.
    """
    if rows <= max(256, 2 * wanted):
        return list(range(rows))
    chosen = {0, 1, 2, rows - 3, rows - 2, rows - 1}
    power = 64
    while power < rows:
        chosen.update((power - 1, power, power + 1))
        power *= 2
    chance = random.Random(seed)
    for tile in (64, 128):
        for _ in range(wanted // 40 or 1):
            border = tile * chance.randrange(1, rows // tile)
            chosen.update((border - 1, border))
        chosen.add(rows - rows % tile)
    chosen = {row for row in chosen if 0 <= row < rows}
    while len(chosen) < wanted:
        chosen.add(chance.randrange(rows))
    return sorted(chosen)
