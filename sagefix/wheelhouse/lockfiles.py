"""Wheels as lines of a lock: PEP 751 (``pylock.toml``) and requirements with hashes, and where each wheel is for.

A lock names files and their hashes; an installer picks among them by tags, and among versions by markers. Neither
knows GPUs or releases of torch, so two wheels that differ in those alone cannot stand in one lock.
Sources: https://packaging.python.org/en/latest/specifications/pylock-toml/
https://packaging.python.org/en/latest/specifications/dependency-specifiers/#environment-markers
https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from packaging.utils import canonicalize_name

from sagefix import __version__
from sagefix.errors import UsageError
from sagefix.files import human_size
from sagefix.wheelhouse.proving import in_words
from sagefix.wheels.model import Facts

CREATED_BY = "sagefix"
FIRST_LINE = "# Written by `sagefix lock`"
"""How a requirements file begins that this module wrote."""

# What platform.machine() and sys.platform say where wheels of these tags run:
# https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/
_AND_SYSTEM = " and sys_platform"
_PLATFORMS = {"win_amd64": ("win32", "AMD64"), "win_arm64": ("win32", "ARM64"), "win32": ("win32", "x86")}


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The wheels of one version, and the environments that they are for, each as a marker (none: any)."""

    version: str
    wheels: tuple[Facts, ...]
    markers: tuple[str, ...]

    @property
    def marker(self) -> str:
        """One marker that holds in all of them; empty: any."""
        return one_marker(self.markers)


def group(wheels: Sequence[Facts]) -> tuple[Group, ...]:
    """Put wheels of one project into groups by version.

    Raises :class:`UsageError` when wheels of two versions are for the same Python and platform.
    """
    versions: dict[str, list[Facts]] = {}
    for wheel in sorted(wheels, key=lambda wheel: wheel.filename):
        versions.setdefault(wheel.version, []).append(wheel)
    groups = tuple(
        Group(version=version, wheels=tuple(found), markers=_markers(found))
        for version, found in versions.items()
    )
    for number, one in enumerate(groups):
        for other in groups[number + 1 :]:
            if (where := _shared(one, other)) is not None:
                raise UsageError(
                    f"{one.version} and {other.version} are both for {where}, and no lock file can tell them apart: "
                    "installers know neither torch nor GPUs.",
                    hint="Write a lock for each: one --wheel and one --output per call.",
                )
    return groups


def one_marker(markers: Sequence[str]) -> str:
    """Return a marker that holds where one of several does; empty for none.

    Where each Python comes with each platform, both are listed once.
    """
    if len(markers) < 2:
        return "".join(markers)
    split = [marker.partition(_AND_SYSTEM) for marker in markers]
    pythons, systems = dict.fromkeys(row[0] for row in split), dict.fromkeys(row[1] + row[2] for row in split)
    if len(pythons) * len(systems) == len(markers) and "" not in systems:
        parts = [_either([*pythons]), _either([system.removeprefix(" and ") for system in systems])]
        return " and ".join(parts)
    return _either(markers)


def _either(markers: Sequence[str]) -> str:
    if len(markers) == 1:
        return markers[0]
    return "(" + " or ".join(f"({each})" if " and " in each else each for each in markers) + ")"


def _markers(wheels: Sequence[Facts]) -> tuple[str, ...]:
    markers = dict.fromkeys(marker_of(tag) for wheel in wheels for tag in wheel.tags)
    return () if "" in markers else tuple(markers)


def marker_of(tag: str) -> str:
    """Return the marker of the environments that a wheel's tag (``cp312-cp312-linux_aarch64``) is for; empty: any."""
    python, abi, platform = tag.split("-")
    parts = []
    number = python[2:]
    if python[:2] == "cp" and len(number) > 1:
        # The stable ABI is good for every later Python 3 as well.
        operator = ">=" if abi == "abi3" else "=="
        parts.append(f'python_version {operator} "{number[0]}.{number[1:]}"')
    system, machine = _PLATFORMS.get(platform, ("", ""))
    if platform.startswith(("linux_", "manylinux", "musllinux")):
        system, machine = "linux", _machine(platform)
    elif platform.startswith("macosx_"):
        system, machine = "darwin", platform.split("_", 3)[-1]
    if system:
        parts += [f'sys_platform == "{system}"', f'platform_machine == "{machine}"']
    return " and ".join(parts)


def _machine(platform: str) -> str:
    """Return ``x86_64`` for ``manylinux_2_34_x86_64``, ``manylinux2014_x86_64`` and ``linux_x86_64``."""
    rest = platform.partition("_")[2]
    while rest[:1].isdigit():
        rest = rest.partition("_")[2]
    return rest


def environment_of(tag: str) -> dict[str, str]:
    """Return an environment, in the words of markers, that a wheel with this tag is for."""
    python, _, platform = tag.split("-")
    number = python[2:] if python[:2] == "cp" and len(python) > 3 else "312"
    system, machine = _PLATFORMS.get(platform, ("linux", _machine(platform) or "x86_64"))
    if platform.startswith("macosx_"):
        system, machine = "darwin", platform.split("_", 3)[-1]
    version = f"{number[0]}.{number[1:]}"
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{version}.0",
        "os_name": "nt" if system == "win32" else "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": {"win32": "Windows", "darwin": "Darwin"}.get(system, "Linux"),
        "platform_version": "",
        "python_full_version": f"{version}.0",
        "python_version": version,
        "sys_platform": system,
    }


def _shared(one: Group, other: Group) -> str | None:
    """Return an environment that the wheels of both groups are for, in words, or None."""
    from packaging.markers import Marker

    for here, there in ((one, other), (other, one)):
        marker = Marker(there.marker) if there.marker else None
        for wheel in here.wheels:
            for tag in wheel.tags:
                environment = environment_of(tag)
                if marker is None or marker.evaluate({**environment}):
                    version, machine = environment["python_version"], environment["platform_machine"]
                    return f"Python {version} on {environment['sys_platform']} {machine}"
    return None


def write_pylock(groups: Sequence[Group], file: Path, *, pin: str) -> bytes:
    """Return the text of a ``pylock.toml`` (PEP 751) that is to stand at ``file``; paths in it are relative to that.

    It is read back, and for each wheel's environment the selection of the specification has to give a wheel of its
    version.
    """
    import tomli_w
    from packaging.markers import Marker
    from packaging.pylock import Package, PackageWheel, Pylock
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    several = len(groups) > 1
    packages = []
    for each in groups:
        python = {wheel.requires_python for wheel in each.wheels}
        packages.append(
            Package(
                name=canonicalize_name(each.wheels[0].project),
                version=Version(each.version),
                marker=Marker(each.marker) if several and each.marker else None,
                requires_python=SpecifierSet(python.pop()) if len(python) == 1 and python != {""} else None,
                wheels=[
                    PackageWheel(
                        name=wheel.filename,
                        size=wheel.size or None,
                        hashes={"sha256": wheel.sha256},
                        **_place(wheel, file.parent),
                    )
                    for wheel in each.wheels
                ],
                tool={CREATED_BY: _told(each)},
            )
        )
    everywhere = any(not each.markers for each in groups)
    lock = Pylock(
        lock_version=Version("1.0"),
        # Where no wheel is for, an installer has to say so; without this, markers alone would skip the package.
        environments=None if everywhere else [Marker(marker) for each in groups for marker in each.markers],
        created_by=CREATED_BY,
        packages=packages,
        tool={CREATED_BY: {"version": __version__, "pin": pin}},
    )
    lock.validate()
    text = tomli_w.dumps({**lock.to_dict()}).encode()
    _require_selects(text, groups)
    return text


def _require_selects(text: bytes, groups: Sequence[Group]) -> None:
    """Read a lock as an installer would, in an environment for each of its wheels."""
    from packaging.pylock import Pylock
    from packaging.tags import parse_tag

    lock = Pylock.from_dict(read_toml(text.decode()))
    for each in groups:
        for wheel in each.wheels:
            for tag in wheel.tags:
                environment: Any = environment_of(tag)
                ((package, _),) = lock.select(environment=environment, tags=[*parse_tag(tag)])
                assert str(package.version) == each.version, (tag, package.version)


def read_toml(text: str) -> dict[str, Any]:
    """Parse TOML; raises :class:`ValueError`."""
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    read: dict[str, Any] = tomllib.loads(text)
    return read


def _place(wheel: Facts, folder: Path) -> dict[str, Any]:
    if "://" in wheel.where:
        return {"url": wheel.where}
    return {"path": relative(Path(wheel.where), folder)}


def relative(path: Path, folder: Path) -> str:
    """Write a path as seen from a folder, with ``/``."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _told(each: Group) -> dict[str, Any]:
    """Return what the label says, what METADATA wants of torch, and what is proven of each wheel."""
    first = each.wheels[0]
    label = first.label
    facts: dict[str, Any] = {
        "commit": first.record.commit if first.record is not None else label.commit,
        "fix": label.fix,
        "cuda": label.cuda,
        "torch": label.torch,
        "requires-torch": first.requires_torch,
        "archs": list(label.archs),
        "proof": {wheel.filename: in_words(wheel.proofs) for wheel in each.wheels},
    }
    return {name: value for name, value in facts.items() if value}


def requirement_lines(groups: Sequence[Group], file: Path) -> list[str]:
    """Return the lines of a requirements file that is to stand at ``file``, without its heading.

    Wheels on this machine are found through ``--find-links`` and their version; those of an index by their URL.
    Raises :class:`UsageError` when two wheels of an index are for the same environment: a URL is one file.
    """
    lines: list[str] = []
    local = [wheel for each in groups for wheel in each.wheels if "://" not in wheel.where]
    folders = dict.fromkeys(Path(wheel.where).parent for wheel in local)
    lines += [f"--find-links {_quoted(relative(folder, file.parent))}" for folder in folders]
    count = sum(len(each.wheels) for each in groups)
    for each in groups:
        lines += ["", *(f"# {_comment(wheel)}" for wheel in each.wheels)]
        here = [wheel for wheel in each.wheels if "://" not in wheel.where]
        if here:
            marker = _markers(here) if count > len(here) else each.markers if len(groups) > 1 else ()
            lines += _line(f"{here[0].project}=={each.version}", marker, here)
        for wheel in each.wheels:
            if wheel not in here:
                lines += _line(
                    f"{wheel.project} @ {wheel.where}", _markers([wheel]) if count > 1 else (), [wheel]
                )
    _require_one_url_each(groups)
    return lines


def _line(what: str, markers: Sequence[str], wheels: Sequence[Facts]) -> list[str]:
    first = f"{what} ; {one_marker(markers)}" if markers else what
    rows = [first, *(f"    --hash=sha256:{wheel.sha256}" for wheel in wheels)]
    return [" \\\n".join(rows)]


def _require_one_url_each(groups: Sequence[Group]) -> None:
    remote = [wheel for each in groups for wheel in each.wheels if "://" in wheel.where]
    everything = [wheel for each in groups for wheel in each.wheels]
    for wheel in remote:
        for other in everything:
            if other is not wheel and set(_markers([wheel])) & set(_markers([other])):
                raise UsageError(
                    f"{wheel.filename} and {other.filename} are for the same Python and platform, and a requirements "
                    "file names the one or the other by its URL.",
                    hint="Write a pylock.toml, whose installer chooses by tags, or leave one of them out.",
                )


def _quoted(text: str) -> str:
    # pip splits options as a shell does.
    return f'"{text}"' if any(character.isspace() for character in text) else text


def _comment(wheel: Facts) -> str:
    label = wheel.label
    made_for = [
        f"torch {label.torch}" if label.torch else "",
        f"CUDA {label.cuda}" if label.cuda else "",
        f"compute capability {', '.join(label.archs)}" if label.archs else "",
    ]
    built = f"for {', '.join(filter(None, made_for))}; " if any(made_for) else ""
    needs = f"requires torch{wheel.requires_torch}; " if wheel.requires_torch else ""
    return f"{wheel.filename} ({human_size(wheel.size)}): {built}{needs}{in_words(wheel.proofs)}"


def write_requirements(groups: Sequence[Group], file: Path) -> bytes:
    """Return the text of a requirements file; see :func:`requirement_lines`."""
    heading = [
        f"{FIRST_LINE} of sagefix {__version__}; `sagefix lock` writes it again.",
        "# torch is not in here: install it first, or add --no-deps.",
    ]
    return ("\n".join([*heading, *requirement_lines(groups, file)]) + "\n").encode()
