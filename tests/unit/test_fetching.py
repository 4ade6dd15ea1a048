"""What uv and pip say, understood."""

from __future__ import annotations

import pytest

from sagefix.targets.fetching import Hearing, Locked, read_lock, why

UV = """\
Using Python 3.9.18 environment at: v39
error: No solution found when resolving dependencies
  cause: Because torch==2.11.0 has no wheels with a matching Python implementation tag (e.g., `cp39`) and
         you require torch==2.11.*, we can conclude that your requirements are unsatisfiable.

hint: You require CPython 3.9 (`cp39`), but we only found wheels for `torch` (v2.11.0) with others: `cp310`
"""
OLDER_UV = """\
  \N{MULTIPLICATION SIGN} No solution found when resolving dependencies:
  ╰─▶ Because only torch<=2.15.0 is available and you require torch==9.9.*, we can conclude that your
      requirements are unsatisfiable.
"""
PIP = """\
Looking in links: /somewhere
WARNING: Location 'file:///other/' is ignored: it is neither a file nor a directory.
ERROR: Could not find a version that satisfies the requirement torch==9.9.* (from versions: 2.7.1, 2.8.0)
ERROR: No matching distribution found for torch==9.9.*
"""


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            UV,
            "You require CPython 3.9 (`cp39`), but we only found wheels for `torch` (v2.11.0) with others: `cp310`",
        ),
        (
            OLDER_UV,
            "Because only torch<=2.15.0 is available and you require torch==9.9.*, we can conclude that your "
            "requirements are unsatisfiable.",
        ),
        (
            PIP,
            "Could not find a version that satisfies the requirement torch==9.9.* (from versions: 2.7.1, 2.8.0) "
            "No matching distribution found for torch==9.9.*",
        ),
        ("Killed\n", "Killed"),
        ("", ""),
    ],
)
def test_the_reason_in_what_a_resolver_says(said: str, reason: str) -> None:
    assert why(said) == reason


def test_a_lock_with_hashes() -> None:
    a, b = "a" * 64, "b" * 64
    text = f"nvidia-nvvm==13.0.88 \\\n    --hash=sha256:{b} \\\n    --hash=sha256:{a}\n# note\ncuda-toolkit==13.0.2\n"
    assert read_lock(text) == (
        Locked(name="cuda-toolkit", version="13.0.2"),
        Locked(name="nvidia-nvvm", version="13.0.88", sha256=(a, b)),
    )
    assert read_lock(text)[1].line() == f"nvidia-nvvm==13.0.88 --hash=sha256:{a} --hash=sha256:{b}"


class Told:
    """Remembers progress."""

    def __init__(self) -> None:
        self.last: tuple[float | None, float | None, str | None] = (None, None, None)

    def update(self, done: float | None = None, total: float | None = None, text: str | None = None) -> None:
        self.last = (done, total, text)


def test_progress_of_uv() -> None:
    told = Told()
    hear = Hearing(told)
    for line in (
        "Resolved 6 packages in 231ms",
        "Downloading nvidia-nvvm (58.5MiB)",
        "Downloading b (1.5KiB)",
    ):
        hear(line)
    assert told.last == (0, 58.5 * 1024**2 + 1536, "b")
    hear(" Downloaded b")
    assert told.last[0] == 1536


def test_progress_of_pip() -> None:
    told = Told()
    hear = Hearing(told)
    hear("  Downloading a-1-py3-none-any.whl (2 kB)")
    hear("  Downloading b-1-py3-none-any.whl.metadata (1.5 MB)")
    assert told.last == (2000, 1_502_000, "b-1-py3-none-any.whl.metadata")
