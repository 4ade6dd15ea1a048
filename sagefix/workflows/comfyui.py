"""ComfyUI, from its folder to the bytes of a workflow and the lines of its console: find, set, log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from sagefix.comfyui.consoles import Console, lines_of, read_console
from sagefix.comfyui.editing import Change, Edit, Refusal, check_words, plan_edit, write_edit
from sagefix.comfyui.fields import Installed, find_fields, suspects
from sagefix.comfyui.installations import Installation, find_installations, the_installation
from sagefix.comfyui.nodepacks import InstalledNode, find_pack, installed_node
from sagefix.comfyui.table import Sets, load_comfyui
from sagefix.comfyui.workflows import parse_workflow, read_workflow
from sagefix.errors import ComfyUIError, TargetError, UnexplainedError, UsageError
from sagefix.files import disk_errors
from sagefix.progress import note


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


def named_installation(folder: str, *, python: bool = True) -> Installation:
    """Return the installation at a folder; with ``python`` the Python that it runs in has to be clear, and is told.

    Raises :class:`TargetError`; :class:`UsageError` for an empty name.
    """
    if not folder.strip():
        # An unset variable of a script must not mean: whatever is here.
        raise UsageError("--comfyui is empty.", hint="Give the folder of an installation.")
    installation = the_installation(Path(folder).expanduser(), load_comfyui(), python=python)
    if not python:
        return installation
    chosen = next(each for each in installation.candidates if each.python == installation.python)
    note(
        f"ComfyUI {installation.version} in {installation.root}: {chosen.python} ({', '.join(chosen.reasons)})"
    )
    return installation


def python_of(folder: str) -> str:
    """Return the Python that the installation at a folder runs in. Raises as :func:`named_installation` does."""
    return named_installation(folder).python


def installation_for(files: Sequence[Path], comfyui: str | None, *, python: bool) -> Installation | None:
    """Return the installation that was named, else the one that a workflow lies in, else None."""
    if comfyui is not None:
        return named_installation(comfyui, python=python)
    for file in files:
        for folder in file.absolute().parents:
            # ComfyUI/user/default/workflows/NAME.json; a file elsewhere says nothing about an installation.
            if folder.name == "user":
                found = find_installations(folder.parent, load_comfyui())
                if len(found) == 1:
                    note(f"{file} lies in the ComfyUI at {found[0].root}.")
                    return found[0]
    return None


def installed_nodes(installation: Installation | None) -> Installed:
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
    installation = installation_for(files, comfyui, python=False)
    look = installed_nodes(installation)
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
