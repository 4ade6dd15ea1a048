"""What an error at import means, and what to do about it: from the one table of known failures."""

from __future__ import annotations

import msgspec

from sagefix.building.failures import load_failures, match_text

_REBUILD = "Build it again for this target: `sagefix install --rebuild`."


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What an error means (empty when nobody knows), the same with the original error, and what to do.

    ``name`` is that of the row in the table of failures.
    """

    meaning: str
    text: str
    fix: str
    name: str = ""


def explain(kind: str, text: str) -> Explanation:
    """Translate an import error (class name and text); what nobody knows is passed on as it is."""
    original = f"{kind}: {' '.join(text.split())}" if text else kind
    met = (row for row in load_failures().failure if "run" in row.strikes)
    if (match := match_text(met, text)) is None:
        return Explanation(meaning="", text=f"{original.rstrip('.')}.", fix=_REBUILD)
    return Explanation(
        meaning=match.means, text=f"{match.means} ({original}).", fix=match.fix, name=match.name
    )
