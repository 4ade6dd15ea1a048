"""Workflows of ComfyUI and the installation they run in, looked at before a run is wasted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from sagefix.archs import parse_archs
from sagefix.checks import Check, failures
from sagefix.comfyui.fields import find_fields
from sagefix.comfyui.installations import Installation
from sagefix.comfyui.judging import Build, Surroundings, judge_workflow
from sagefix.comfyui.judging_launch import judge_launch, judge_leftovers
from sagefix.comfyui.launching import Launch, given_launch, leftovers
from sagefix.comfyui.nodepacks import find_pack, pack_version
from sagefix.comfyui.table import Table, load_comfyui
from sagefix.comfyui.workflows import Workflow, read_workflow
from sagefix.errors import ComfyUIError, SagefixError, UsageError
from sagefix.pins.load import load_pin
from sagefix.proof.verify import verify as verify_installed
from sagefix.targets.gpus import find_gpus
from sagefix.targets.interpreter import find_python, probe
from sagefix.targets.model import Interpreter, Target
from sagefix.wheelhouse.proving import standing_on
from sagefix.workflows.comfyui import installation_for, installed_nodes
from sagefix.workflows.kept import wheel_of
from sagefix.workflows.situation import Request


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at. ``installation`` is None where none was named or found."""

    installation: Installation | None
    archs: tuple[str, ...]
    archs_from: str
    checks: tuple[Check, ...]


def check(
    files: Sequence[Path],
    request: Request,
    *,
    comfyui: str | None = None,
    launch_arguments: str | None = None,
) -> Checked:
    """Look at workflows, and at the installation that they run in.

    Without ``comfyui`` the installation is the one that a file lies in, if any. The Python is the one that was named,
    else that of the installation, else none: what depends on packages is left out then.

    Raises :class:`ComfyUIError` for a file that cannot be read; :class:`TargetError` for an installation or Python that
    was named and cannot be used; :class:`UsageError`.
    """
    table = load_comfyui()
    workflows = [read_workflow(file) for file in files]
    installation = installation_for(files, comfyui, python=True)
    interpreter = _interpreter_for(request, installation)
    if not files and installation is None:
        raise UsageError(
            "There is nothing to look at: no workflow, and no installation.",
            hint="Name workflow files, or an installation with --comfyui.",
        )
    around, archs_from = _surroundings(request, installation, interpreter, launch_arguments)
    checks: list[Check] = []
    for workflow in workflows:
        fields = find_fields(workflow, table, installed_nodes(installation))
        checks += judge_workflow(workflow, fields, table, around)
    for launch in around.launches:
        checks += judge_launch(launch, table, around)
    if installation is not None:
        checks += _packs(installation, table, workflows)
        checks += judge_leftovers(leftovers(_temp_folders(installation)))
    return Checked(installation=installation, archs=around.archs, archs_from=archs_from, checks=tuple(checks))


def require_fitting(checked: Checked) -> None:
    """Raise :class:`ComfyUIError` when a check failed."""
    if bad := failures(checked.checks):
        raise ComfyUIError(
            f"{len(bad)} of {len(checked.checks)} checks failed: {', '.join(each.name for each in bad)}.",
            hint=next((each.fix for each in bad if each.fix), ""),
        )


def _interpreter_for(request: Request, installation: Installation | None) -> Interpreter | None:
    if request.python is not None:
        return probe(find_python(request.python))
    if installation is not None and installation.python:
        return probe(Path(installation.python))
    return None


def _surroundings(
    request: Request,
    installation: Installation | None,
    interpreter: Interpreter | None,
    launch_arguments: str | None,
) -> tuple[Surroundings, str]:
    archs: tuple[str, ...] = ()
    archs_from = ""
    if request.arch:
        archs, archs_from = tuple(arch.capability for arch in parse_archs(request.arch)), "--arch"
    elif interpreter is not None:
        gpus = find_gpus(interpreter)
        archs, archs_from = tuple(dict.fromkeys(gpu.capability for gpu in gpus.gpus)), gpus.found_by
    launches: tuple[Launch, ...] = installation.launches if installation else ()
    if launch_arguments is not None:
        launches = (given_launch(launch_arguments),)
    name = ""
    if installation is not None:
        name = f" --comfyui {installation.root}"
    elif request.python is not None:
        name = f" --python {request.python}"
    return Surroundings(
        name=name,
        archs=archs,
        torch=interpreter.torch.version if interpreter and interpreter.torch else "",
        packages=interpreter.packages if interpreter else None,
        build=_build(request, interpreter, archs) if interpreter else None,
        launches=launches,
    ), archs_from


def _build(request: Request, interpreter: Interpreter, archs: tuple[str, ...]) -> Build | None:
    """Return what is known of the SageAttention that is installed; None when it is not."""
    pin = load_pin(request.pin)
    version = interpreter.packages.get(pin.project)
    if version is None:
        return None
    target = Target(
        interpreter=interpreter,
        archs=parse_archs(",".join(archs)) if archs else (),
        archs_from=request.arch or "",
    )
    try:
        verdict = verify_installed(pin, target, level="static")
    except SagefixError as error:
        return Build(version=version, broken=(Check(name="files", status="failure", found=error.message),))
    _, wheel = wheel_of(interpreter, pin.project, request.wheelhouse)
    return Build(
        version=version,
        broken=tuple(failures(verdict.checks)),
        proof=standing_on(wheel, archs) if wheel else "",
    )


def _packs(installation: Installation, table: Table, workflows: Sequence[Workflow]) -> list[Check]:
    """Say which packs of known nodes are installed; one that a workflow needs and that is not there is a failure."""
    used = {kind.pack for each in workflows for node in each.nodes if (kind := table.node_type(node.type))}
    checks = []
    for pack in table.pack:
        folder = find_pack(installation.custom_nodes, pack.name)
        if folder is not None:
            version = pack_version(folder)
            checks.append(
                Check(name=pack.name, status="ok", found=f"{version or 'it states no version'}, in {folder}")
            )
        elif pack.name in used:
            checks.append(
                Check(
                    name=pack.name,
                    status="failure",
                    found=f"A workflow uses its nodes, and it is not in {installation.custom_nodes}.",
                    fix=f"Install it: {pack.url}",
                )
            )
    return checks


def _temp_folders(installation: Installation) -> list[Path]:
    folders = [Path(installation.base) / "temp"]
    if installation.app and installation.app != installation.base:
        folders.append(Path(installation.app) / "temp")
    return folders
