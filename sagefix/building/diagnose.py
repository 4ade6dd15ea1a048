"""The first real error in a build's log.

ninja, setuptools and the interpreter each wrap a failure in lines of their own; the cause stands above them.
"""

from __future__ import annotations

import re

# In order of how much they explain: a compiler's own words, then a linker's, then Python's.
_PATTERNS = (
    re.compile(r"^.*\bfatal error\s*:.*$", re.IGNORECASE),
    re.compile(r"^(?!.*\bninja: )(?!.*RuntimeError).*\berror\s*(?:#\d+|C\d+)?\s*:.*$"),
    re.compile(r"^ptxas .*; error\s*:.*$"),
    re.compile(r"^.*\b(?:undefined reference to|cannot find -l\w+|multiple definition of)\b.*$"),
    re.compile(r"^.*\b(?:Killed|Out of memory|No space left on device)\b.*$"),
    re.compile(
        r"^(?!subprocess\.CalledProcessError)(?!RuntimeError: Error compiling)(?:\w+\.)*\w+(?:Error|Exception): .*$"
    ),
)
# ``error:`` lines that only repeat that something else failed.
_ECHO = re.compile(
    r"^(?:error: (?:command|subprocess)|ninja: build stopped|collect2: error|make: |FAILED: "
    r"|.*failed with exit (?:code|status))"
)
_CONTEXT_LINES = 3


def first_error(log: str) -> str:
    """Return the first error that explains the others, with a few lines after it; empty when none is seen."""
    lines = log.splitlines()
    for pattern in _PATTERNS:
        for number, line in enumerate(lines):
            text = line.strip()
            if pattern.match(text) and not _ECHO.match(text):
                return "\n".join(part.rstrip() for part in lines[number : number + _CONTEXT_LINES]).strip()
    return ""
