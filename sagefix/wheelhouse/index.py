"""The pages that make a wheelhouse a simple index.

HTML as PEP 503 has it (frozen by PEP 833), which pip and uv read from a plain static server and from
``file://``; JSON as PEP 691 and PEP 700 have it, for clients that ask for it. METADATA stands beside each
wheel (PEP 658), announced under both names of PEP 714 in HTML, and under the new one only in JSON, where the
old name made pip 22.3 to 23.0 crash.

What is proven of each wheel stands in the cell beside its link, for people, and for sagefix in attributes and keys
that nobody else reads: other elements are allowed on a page, and keys with an underscore belong to whoever runs the
index (https://peps.python.org/pep-0691/#specification). A wheel that failed on any kind of GPU is not listed at all,
since pip and uv know no GPUs.
Sources: https://peps.python.org/pep-0503/ https://peps.python.org/pep-0691/ https://peps.python.org/pep-0700/
https://peps.python.org/pep-0658/ https://peps.python.org/pep-0714/ https://peps.python.org/pep-0833/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import quote

import msgspec

from sagefix.wheelhouse.model import Sidecar
from sagefix.wheelhouse.proving import failed_somewhere, in_words
from sagefix.wheels.model import Proof

HTML_NAME = "index.html"
JSON_NAME = "index.json"
PROVEN = "data-sagefix-proven"
"""The attribute with the lines about a wheel's proofs, as JSON."""
PROOFS = "data-sagefix-proofs"
"""The attribute with the hash of the file with them, as in PEP 714."""
PRIVATE = "_sagefix"
"""The key that holds both in JSON: ``proven`` and ``proofs``."""
_API_VERSION = "1.1"


def pages(projects: Mapping[str, Sequence[Sidecar]]) -> dict[str, bytes]:
    """Return every page of the index by its path below the root.

    ``projects`` maps normalised names to what is kept of them. The bytes depend on nothing else, so that
    comparing them tells whether an index is out of date. What failed is left out.
    """
    listed = {
        name: [sidecar for sidecar in kept if not failed_somewhere(sidecar.proofs)]
        for name, kept in projects.items()
    }
    names = sorted(name for name, kept in listed.items() if kept)
    meta = {"api-version": _API_VERSION}
    made = {
        HTML_NAME: _html(
            "Simple index", [f'<a href="{quote(name)}/">{escape(name)}</a><br>' for name in names]
        ),
        JSON_NAME: _json({"meta": meta, "projects": [{"name": name} for name in names]}),
    }
    for name in names:
        kept = sorted(listed[name], key=lambda sidecar: sidecar.facts.filename)
        made[f"{name}/{HTML_NAME}"] = _html(f"Links for {name}", _table(kept))
        made[f"{name}/{JSON_NAME}"] = _json(
            {
                "meta": meta,
                "name": name,
                "versions": sorted({sidecar.facts.version for sidecar in kept}),
                "files": [_file(sidecar) for sidecar in kept],
            }
        )
    return made


def _href(filename: str) -> str:
    # quote() writes "+" as %2B: some servers (S3 among them) read a bare "+" in a path as a space.
    return quote(filename)


def _table(kept: Sequence[Sidecar]) -> list[str]:
    rows = [
        f"<tr><td>{_anchor(sidecar)}</td><td>{escape(in_words(sidecar.proofs))}</td></tr>" for sidecar in kept
    ]
    return ["<table>", "<tr><th>wheel</th><th>proof</th></tr>", *rows, "</table>"]


def _anchor(sidecar: Sidecar) -> str:
    facts = sidecar.facts
    attributes = {
        "href": f"{_href(facts.filename)}#sha256={sidecar.sha256}",
        "data-core-metadata": f"sha256={sidecar.metadata_sha256}",
        "data-dist-info-metadata": f"sha256={sidecar.metadata_sha256}",
    }
    if facts.requires_python:
        attributes["data-requires-python"] = facts.requires_python
    if sidecar.proofs:
        attributes[PROVEN] = msgspec.json.encode(_lines(sidecar.proofs)).decode()
    if sidecar.proofs_sha256:
        attributes[PROOFS] = f"sha256={sidecar.proofs_sha256}"
    written = " ".join(f'{name}="{escape(value)}"' for name, value in attributes.items())
    return f"<a {written}>{escape(facts.filename)}</a>"


def _file(sidecar: Sidecar) -> dict[str, object]:
    facts = sidecar.facts
    entry: dict[str, object] = {
        "filename": facts.filename,
        "url": _href(facts.filename),
        "hashes": {"sha256": sidecar.sha256},
        "core-metadata": {"sha256": sidecar.metadata_sha256},
        "size": sidecar.size,
        "upload-time": sidecar.added,
    }
    if facts.requires_python:
        entry["requires-python"] = facts.requires_python
    if sidecar.proofs:
        private: dict[str, object] = {"proof": in_words(sidecar.proofs), "proven": _lines(sidecar.proofs)}
        if sidecar.proofs_sha256:
            private["proofs"] = {"sha256": sidecar.proofs_sha256}
        entry[PRIVATE] = private
    return entry


def _lines(proofs: Sequence[Proof]) -> list[dict[str, object]]:
    """Return what :class:`Proof` says of each, without verdicts and without what is empty."""
    told = [msgspec.structs.asdict(proof) for proof in proofs]
    return [
        {
            key: value
            for key, value in line.items()
            if key != "verdict" and value not in ("", ()) and (key, value) != ("emulated", False)
        }
        for line in told
    ]


def _html(title: str, body: Sequence[str]) -> bytes:
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="pypi:repository-version" content="1.0">',
        f"<title>{escape(title)}</title>",
        "</head>",
        "<body>",
        *body,
        "</body>",
        "</html>",
    ]
    return ("\n".join(lines) + "\n").encode()


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
