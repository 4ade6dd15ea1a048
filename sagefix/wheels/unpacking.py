"""A wheel unpacked into a folder that becomes like a site-packages, whatever platform it is for.

pip and uv refuse a wheel of another platform. Format:
https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

from pathlib import Path

from sagefix.files import disk_errors


def unpack(wheel: Path, site: Path) -> None:
    """Unpack a wheel whose contents were compared with its RECORD (:func:`~sagefix.wheels.archive.validate`).

    Programs, headers and data go into folders beside ``site``; nothing is compiled. Raises :class:`DiskError`.
    """
    from installer import install
    from installer.destinations import SchemeDictionaryDestination
    from installer.sources import WheelFile

    beside = {name: str(site.parent / name) for name in ("scripts", "headers", "data")}
    destination = SchemeDictionaryDestination(
        {"purelib": str(site), "platlib": str(site), **beside}, interpreter="python", script_kind="posix"
    )
    with disk_errors(site, f"unpack {wheel.name}"), WheelFile.open(wheel) as source:
        install(source, destination, additional_metadata={})
