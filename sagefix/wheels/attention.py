"""The wheel ``sagefix-attention``: the package of that name for a target, and what is known of the target."""

from __future__ import annotations

from pathlib import Path

from sagefix import __version__
from sagefix.attention import facts
from sagefix.settings import PACKAGE
from sagefix.wheels.label import wheel_filename
from sagefix.wheels.writing import Content, write_wheel

_EPOCH = 1577836800  # 2020-01-01: the content tells what it is, its date nothing.
_METADATA = f"""\
Metadata-Version: 2.4
Name: {facts.PROJECT}
Version: {__version__}
Summary: Routes torch's attention to SageAttention where that is right and faster
License-Expression: Apache-2.0
Requires-Python: >=3.9
"""
_WHEEL = f"""\
Wheel-Version: 1.0
Generator: sagefix {__version__}
Root-Is-Purelib: true
Tag: py3-none-any
"""


def write_attention_wheel(folder: Path, known: facts.Facts, *, code: bool) -> Path:
    """Write the wheel into ``folder`` and return its path.

    The facts stand in its metadata. ``code`` adds the package ``sagefix.attention`` itself, without
    ``sagefix/__init__.py``, so that ``sagefix`` is a namespace package there (PEP 420); a target that has sagefix
    has the code already. Raises :class:`~sagefix.errors.DiskError`.
    """
    filename = wheel_filename(facts.PROJECT, __version__, "py3", "none", "any")
    info = f"{'-'.join(filename.split('-')[:2])}.dist-info"
    files: dict[str, Content] = {
        f"{info}/METADATA": _METADATA.encode(),
        f"{info}/WHEEL": _WHEEL.encode(),
        f"{info}/{facts.NAME}": facts.encode(known),
    }
    if code:
        source = PACKAGE / "attention"
        files.update({f"sagefix/attention/{path.name}": path for path in sorted(source.glob("*.py"))})
    return write_wheel(folder, filename, dist_info=info, files=files, epoch=_EPOCH)
