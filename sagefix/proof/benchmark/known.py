"""What is known without a benchmark of this GPU: the types and the loading of ``manifests/attention.toml``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from sagefix import settings
from sagefix.pins.load import convert_table, read_table
from sagefix.pins.rules import Problem

NAME = "attention.toml"
ANY = "*"


class KnownCrossover(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From how many ``tokens`` on the pin's function is faster than SDPA, on the GPUs of these whole names.

    ``gpus`` ``["*"]`` stands for every other GPU of the capability. ``sequences`` is batch times heads where it was
    measured, ``derived`` says how it was found.
    """

    gpus: tuple[str, ...]
    capability: str
    dtypes: tuple[Literal["bfloat16", "float16"], ...]
    head_dim: int
    tokens: int
    sequences: int
    causal: bool = False
    derived: str
    sources: tuple[str, ...]


class Longest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to how many tokens numbers are proven on a capability, and by what."""

    capability: str
    tokens: int
    derived: str
    sources: tuple[str, ...]


class AttentionTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``manifests/attention.toml`` says."""

    schema: Literal[1]
    crossover: tuple[KnownCrossover, ...]
    longest: tuple[Longest, ...] = ()

    def crossovers(self, gpu: str, capability: str) -> tuple[KnownCrossover, ...]:
        """Return what is known of a GPU: by its name, else of all of its capability."""
        alike = [each for each in self.crossover if each.capability == capability]
        named = tuple(each for each in alike if gpu in each.gpus)
        return named or tuple(each for each in alike if ANY in each.gpus)

    def longest_on(self, capability: str) -> int:
        """Return up to how many tokens numbers are proven on a capability; 0 where nobody noted it."""
        return max((each.tokens for each in self.longest if each.capability == capability), default=0)


def load_attention_table(folder: Path | None = None) -> AttentionTable:
    """Read the table: that of the folder of manifests, else the one sagefix comes with.

    Raises :class:`PinError` with line and key of what is wrong.
    """
    where = settings.manifests_dir() if folder is None else folder
    path = where / NAME if (where / NAME).is_file() else settings.shipped_manifests() / NAME
    described = "sagefix/proof/benchmark/known.py"
    return convert_table(path, read_table(path), AttentionTable, _problems, described_in=described)


def _problems(table: AttentionTable, path: Path) -> Iterator[Problem]:
    del path
    for index, each in enumerate(table.crossover):
        for key in ("head_dim", "tokens", "sequences"):
            if getattr(each, key) < 1:
                yield ("crossover", index, key), "must be above 0"
        if not each.sources:
            yield ("crossover", index, "sources"), "must name where it was measured"
