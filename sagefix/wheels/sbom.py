"""The software bill of materials inside a wheel: CycloneDX 1.6 under ``.dist-info/sboms/``.

Made from the record and the files alone, so that the same wheel always carries the same one.
Sources: https://peps.python.org/pep-0770/ and https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from sagefix.targets.model import Package
from sagefix.wheels.label import escape_name
from sagefix.wheels.model import Extension, Record

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License
    from cyclonedx.model.tool import ToolRepository
    from packageurl import PackageURL

FOLDER = "sboms"
SUFFIX = ".cdx.json"

_LINKED = "headers compiled in, libraries linked at run time"
_HEADERS = "headers compiled in"
_OFFERED = "headers that torch's headers may include"
_TOOL = "ran during the build"
# What becomes of a package in the wheel. Others of a CUDA toolkit have libraries that torch links, not the wheel.
_USES = {
    "torch": _LINKED,
    "nvidia-cuda-runtime": _LINKED,
    "nvidia-cuda-cccl": _HEADERS,
    "nvidia-cuda-crt": _HEADERS,
    "nvidia-cuda-nvcc": _TOOL,
    "nvidia-nvvm": _TOOL,
}
_INSIDE = frozenset({_LINKED, _HEADERS})
_PROGRAMS = ("host compiler", "ld", "nvcc", "ptxas")
# What every wheel meets again where it is installed.
_RUNTIME = {
    "python": "headers compiled in; runs it",
    "glibc": "start files linked in, libraries linked at run time",
}


def sbom_name(record: Record) -> str:
    """Return the file's path inside ``.dist-info``: ``sboms/sageattention.cdx.json``."""
    return f"{FOLDER}/{escape_name(record.project)}{SUFFIX}"


def make_sbom(record: Record, extensions: Sequence[Extension], *, license: str) -> bytes:  # noqa: A002
    """Write the SBOM of a wheel. ``license`` is the project's, an SPDX expression.

    Components: the package with its commit; torch and the CUDA packages with what became of them; what is linked in
    statically; Python and glibc; the programs of the build (scope ``excluded``: nothing of them is in the wheel).
    Versions and hashes are the record's.
    """
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    subject = _subject(record, extensions, license)
    packages = {package.name: _package(package) for package in record.packages}
    static = [_part(name, record.cuda, "linked in statically") for name in static_parts(extensions)]
    programs = [_program(name, record.tools[name]) for name in _PROGRAMS if name in record.tools]
    runtime = [
        _part(name, record.tools[name], use)
        for name, use in _RUNTIME.items()
        if name in record.tools and (name == "python" or extensions)
    ]
    bom = Bom(
        # Nothing random: the same wheel has the same number.
        serial_number=uuid.uuid5(
            uuid.NAMESPACE_URL, f"urn:sagefix:{record.key}:{record.project}:{record.version}"
        ),
        metadata=BomMetaData(
            component=subject,
            timestamp=datetime.fromtimestamp(record.source_date_epoch, timezone.utc),
            tools=_makers(record),
        ),
        components=[*packages.values(), *static, *runtime, *programs],
    )
    used = [packages[package.name] for package in record.packages if _use(package.name) in _INSIDE]
    bom.register_dependency(subject, [*used, *static, *runtime])
    text: str = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)
    return text.encode() + b"\n"


def static_parts(extensions: Iterable[Extension]) -> tuple[str, ...]:
    """Return what is linked into the extensions themselves, as far as their files tell.

    GPU code without a NEEDED ``libcudart`` means that the CUDA runtime is inside.
    """
    found = []
    for extension in extensions:
        has_code = bool(extension.cubins or extension.ptx)
        if has_code and not any(name.startswith("libcudart.") for name in extension.needed):
            found.append("cudart_static")
    return tuple(dict.fromkeys(found))


def _subject(record: Record, extensions: Sequence[Extension], license_: str) -> Component:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, Property, XsUri
    from cyclonedx.model.component import Commit, Component, ComponentType, Pedigree

    url = record.source_url if record.source_url.startswith("https://") else ""
    properties = {
        "sagefix:key": record.key,
        "sagefix:tree": record.tree,
        "sagefix:archs": " ".join(record.archs),
        "sagefix:fixes": " ".join(record.fixes),
        "sagefix:static": " ".join(static_parts(extensions)) or "none",
        **{f"sagefix:needed:{extension.path}": " ".join(extension.needed) for extension in extensions},
    }
    return Component(
        name=record.project,
        version=record.version,
        type=ComponentType.LIBRARY,
        bom_ref=record.project,
        purl=_purl(record.project, record.version),
        licenses=_licenses(license_),
        pedigree=Pedigree(
            commits=[Commit(uid=record.commit, url=XsUri(f"{url}/commit/{record.commit}") if url else None)],
            notes="Built by sagefix from this commit"
            + (", with fixes at link time." if record.fixes else "."),
        ),
        external_references=[ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(url))]
        if url
        else [],
        properties=[Property(name=name, value=value) for name, value in properties.items() if value],
    )


def _package(package: Package) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentScope, ComponentType

    use = _use(package.name)
    properties = [Property(name="sagefix:use", value=use)]
    if package.record_sha256:
        properties.append(Property(name="sagefix:record-sha256", value=package.record_sha256))
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"package:{package.name}",
        purl=_purl(package.name, package.version),
        scope=ComponentScope.REQUIRED if use in _INSIDE else ComponentScope.EXCLUDED,
        licenses=_licenses(package.license),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=package.wheel_sha256)]
        if package.wheel_sha256
        else [],
        properties=properties,
    )


def _use(name: str) -> str:
    return _USES.get(name, _OFFERED if name.startswith("nvidia-") else _TOOL)


def _part(name: str, version: str, use: str) -> Component:
    """Return something of which there is code in the wheel, and which came as no package."""
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentScope, ComponentType

    return Component(
        name=name,
        version=version or None,
        type=ComponentType.LIBRARY,
        bom_ref=f"part:{name}",
        scope=ComponentScope.REQUIRED,
        properties=[Property(name="sagefix:use", value=use)],
    )


def _program(name: str, version: str) -> Component:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentScope, ComponentType

    return Component(
        name=name,
        version=version,
        type=ComponentType.APPLICATION,
        bom_ref=f"program:{name.replace(' ', '-')}",
        scope=ComponentScope.EXCLUDED,
        properties=[Property(name="sagefix:use", value=_TOOL)],
    )


def _makers(record: Record) -> ToolRepository:
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository

    sagefix = Component(
        name="sagefix", version=record.sagefix, type=ComponentType.APPLICATION, bom_ref="maker:sagefix"
    )
    return ToolRepository(components=[sagefix])


def _purl(name: str, version: str) -> PackageURL:
    from packageurl import PackageURL

    return PackageURL("pypi", None, name, version)


def _licenses(text: str) -> list[License]:
    """Return a licence in the form that says most: an SPDX id, an expression, or the words it came in."""
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if not text:
        return []
    try:
        expression = canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        return [DisjunctiveLicense(name=text)]
    if " " in expression or expression.startswith("LicenseRef-"):
        return [LicenseExpression(value=expression)]
    return [DisjunctiveLicense(id=expression)]
