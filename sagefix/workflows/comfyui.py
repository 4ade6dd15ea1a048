"""ComfyUI, from its folder to the bytes of a workflow: find, check, set, log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from sagefix.archs import parse_archs
from sagefix.checks import Check, failures
from sagefix.comfyui.consoles import Console, lines_of, read_console
from sagefix.comfyui.editing import Change, Edit, Refusal, check_words, plan_edit, write_edit
from sagefix.comfyui.fields import Installed, find_fields, suspects
from sagefix.comfyui.installations import Installation, find_installations, the_installation
from sagefix.comfyui.judging import Build, Surroundings, judge_launch, judge_leftovers, judge_workflow
from sagefix.comfyui.launching import Launch, given_launch, leftovers
from sagefix.comfyui.nodepacks import InstalledNode, find_pack, installed_node, pack_version
from sagefix.comfyui.table import Sets, Table, load_comfyui
from sagefix.comfyui.workflows import Workflow, parse_workflow, read_workflow
from sagefix.errors import ComfyUIError, SagefixError, TargetError, UnexplainedError, UsageError
from sagefix.files import disk_errors
from sagefix.pins.load import load_pin
from sagefix.progress import note
from sagefix.proof.verify import verify as verify_installed
from sagefix.targets.gpus import find_gpus
from sagefix.targets.interpreter import find_python, probe
from sagefix.targets.model import Interpreter, Target
from sagefix.wheelhouse.proving import standing_on
from sagefix.workflows.kept import wheel_of
from sagefix.workflows.situation import Request


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at. ``installation`` is None where none was named or found."""

    installation: Installation | None
    archs: tuple[str, ...]
    archs_from: str
    checks: tuple[Check, ...]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file.

    ``left`` are nodes of unknown types that look as if they chose attention. ``backup`` is empty where nothing was
    written.
    """

    file: str
    changes: tuple[Change, ...]
    already: tuple[str, ...]
    refused: tuple[Refusal, ...]
    left: tuple[str, ...]
    written: bool
    backup: str = ""


def find(folder: Path | None) -> tuple[Installation, ...]:
    """Return the installations of ComfyUI at a folder, or in the usual places.

    Raises :class:`TargetError` when ``folder`` is none, or there is no installation in it.
    """
    found = find_installations(folder, load_comfyui())
    if not found:
        raise TargetError(
            f"There is no ComfyUI at {folder}."
            if folder
            else "There is no ComfyUI here or in the usual places.",
            hint="Name the folder that holds main.py of ComfyUI, or the one with python_embeded in it.",
        )
    return found


def python_of(folder: str) -> str:
    """Return the Python that the installation at a folder runs in. Raises :class:`TargetError`."""
    if not folder.strip():
        raise UsageError("--comfyui is empty.", hint="Give the folder of an installation.")
    installation = the_installation(Path(folder).expanduser(), load_comfyui())
    chosen = next(each for each in installation.candidates if each.python == installation.python)
    note(
        f"ComfyUI {installation.version} in {installation.root}: {chosen.python} ({', '.join(chosen.reasons)})"
    )
    return installation.python


# --- check


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
    installation = _installation_for(files, comfyui, table)
    interpreter = _interpreter_for(request, installation)
    if not files and installation is None:
        raise UsageError(
            "There is nothing to look at: no workflow, and no installation.",
            hint="Name workflow files, or an installation with --comfyui.",
        )
    around, archs_from = _surroundings(request, installation, interpreter, launch_arguments)
    checks: list[Check] = []
    for workflow in workflows:
        fields = find_fields(workflow, table, _installed_nodes(installation))
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


def _installation_for(files: Sequence[Path], comfyui: str | None, table: Table) -> Installation | None:
    if comfyui is not None:
        python_of(comfyui)
        return the_installation(Path(comfyui).expanduser(), table)
    for file in files:
        for folder in file.absolute().parents:
            # ComfyUI/user/default/workflows/NAME.json; a file elsewhere says nothing about an installation.
            if folder.name == "user":
                found = find_installations(folder.parent, table)
                if len(found) == 1:
                    note(f"{file} lies in the ComfyUI at {found[0].root}.")
                    return found[0]
    return None


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


def _installed_nodes(installation: Installation | None) -> Installed:
    """Return what looks nodes up in the packs of an installation, each once."""
    seen: dict[tuple[str, str], InstalledNode | None] = {}

    def look(pack: str, node_type: str) -> InstalledNode | None:
        if installation is None:
            return None
        if (pack, node_type) not in seen:
            folder = find_pack(installation.custom_nodes, pack)
            seen[pack, node_type] = installed_node(folder, pack, node_type) if folder else None
        return seen[pack, node_type]

    return look


# --- set


def set_values(
    files: Sequence[Path],
    asked: dict[Sets, str],
    *,
    comfyui: str | None = None,
    nodes: Sequence[str] = (),
    dry_run: bool = False,
) -> tuple[Written, ...]:
    """Write other values into workflows; all files are worked out before the first one is written.

    Raises :class:`UsageError` for a word that no node knows; :class:`ComfyUIError` for a file that cannot be read or
    that has nothing of the kind. A refused field is no error here: see :func:`require_set`.
    """
    table = load_comfyui()
    if not asked:
        raise UsageError("Nothing is to be set.", hint="Give --attention, --precision or both.")
    check_words(table, asked)
    installation = (
        the_installation(Path(comfyui).expanduser(), table)
        if comfyui
        else _installation_for(files, None, table)
    )
    look = _installed_nodes(installation)
    edits: list[tuple[Edit, tuple[str, ...]]] = []
    for file in files:
        raw = _read(file)
        workflow = parse_workflow(str(file), raw)
        left = tuple(node.name for node, _ in suspects(workflow, table)) if "attention" in asked else ()
        edit = plan_edit(workflow, raw, find_fields(workflow, table, look), asked, nodes)
        edits.append((edit, left))
    write = not dry_run and not any(edit.refused for edit, _ in edits)
    return tuple(_written(edit, left, write=write) for edit, left in edits)


def _read(file: Path) -> bytes:
    read_workflow(file)
    with disk_errors(file, f"read {file.name}"):
        return file.read_bytes()


def _written(edit: Edit, left: tuple[str, ...], *, write: bool) -> Written:
    backup = str(write_edit(edit)) if write and edit.changes else ""
    return Written(
        file=edit.file,
        changes=edit.changes,
        already=edit.already,
        refused=edit.refused,
        left=left,
        written=bool(backup),
        backup=backup,
    )


def require_set(written: Sequence[Written]) -> None:
    """Raise :class:`ComfyUIError` when a field was refused; nothing was written then, to no file."""
    refused = [(each.file, refusal) for each in written for refusal in each.refused]
    if refused:
        file, first = refused[0]
        raise ComfyUIError(
            f"Nothing was written. {first.field} of node {first.node} ({first.type}) in {file} cannot be set: "
            f"{first.why}." + (f" {len(refused) - 1} more are listed above." if len(refused) > 1 else ""),
            hint="Set the others with --node, and this one in ComfyUI.",
            details={"refused": [{"file": each, **msgspec.structs.asdict(why)} for each, why in refused]},
        )


# --- log


def read_log(file: Path) -> Console:
    """Read the console log of a file. Raises :class:`UsageError` when it cannot be read."""
    try:
        with file.open("rb") as stream:
            return read_console_of(stream)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror or error}.",
            hint="Give a console log of ComfyUI (user/comfyui.log), or - for standard input.",
        ) from error


def read_console_of(stream: Iterable[bytes]) -> Console:
    """Read a console log from lines of bytes."""
    return read_console(lines_of(stream), load_comfyui())


def require_ran(read: Console) -> None:
    """Raise :class:`UnexplainedError` when no line tells which attention ran, :class:`ComfyUIError` when it was not
    SageAttention throughout."""
    details = {"ran": read.ran}
    if read.ran == "unknown":
        raise UnexplainedError(
            read.words,
            hint="Give the log from the start of ComfyUI to the end of a prompt (user/comfyui.log).",
            details=details,
        )
    if read.ran != "ran":
        raise ComfyUIError(f"SageAttention: {read.ran}.", hint=next(iter(read.fixes), ""), details=details)
