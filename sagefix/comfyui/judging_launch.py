"""Whether the installation fits: what ComfyUI is started with, and what a run has left behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from sagefix.checks import Check, Status
from sagefix.comfyui.judging import SAGE, Surroundings, proven
from sagefix.comfyui.launching import Launch, Leftovers, contradictions
from sagefix.comfyui.table import Argument, Table
from sagefix.files import human_size


def judge_launch(launch: Launch, table: Table, around: Surroundings) -> Iterator[Check]:
    """Yield a check for each argument of a start script that chooses attention or precision, or contradicts another."""
    name = Path(launch.script).name if launch.script else "launch arguments"
    known = launch.known(table)
    for clash in contradictions(launch, table):
        yield Check(
            name=name,
            status="failure",
            found=f"{' and '.join(row.flag for row in clash)} exclude each other: ComfyUI prints its usage and "
            "does not start.",
            fix="Leave one of them.",
            sources=clash[0].sources,
        )
    attention = [row for row in known if row.sets == "attention"]
    floats = [row for row in known if row.sets == "precision"]
    for row in attention:
        yield _judge_argument(name, row, floats, table, around)
    if not attention:
        left = around.build is not None and not around.build.broken
        yield Check(
            name=name,
            status="warning" if left else "ok",
            found="No argument chooses attention: ComfyUI's own nodes call torch's"
            + (", although SageAttention is installed." if left else "."),
            fix="Add --use-sage-attention behind main.py, unless your workflows choose in their nodes."
            if left
            else "",
        )
    for row in floats if not attention else ():
        yield Check(name=name, status="ok", found=f"{row.flag}: {row.says}.", sources=())


def _judge_argument(
    name: str, row: Argument, floats: Iterable[Argument], table: Table, around: Surroundings
) -> Check:
    meaning = table.meaning_of(row.means)
    status: Status = "ok"
    wrong = fix = ""
    if around.packages is not None and meaning.package and meaning.package not in around.packages:
        status, wrong = "failure", f"{meaning.package} is not installed: ComfyUI says so and does not start."
        fix = f"`sagefix install{around.name}`." if meaning.package == SAGE else f"Install {meaning.package}."
    elif clash := [each for each in floats if row.means in table.meaning_of(each.means).not_with]:
        status = "failure"
        wrong = f"With {clash[0].flag} ({clash[0].says}) each call fails and falls back to torch's attention."
        fix = f"Leave {clash[0].flag} out."
    elif meaning.package == SAGE and around.build is not None:
        status, wrong, fix = proven(around.build, around)
    return Check(
        name=name,
        status=status,
        found=f"{row.flag}: {row.says}. {wrong}".strip(),
        fix=fix,
        sources=row.sources if status != "ok" else (),
    )


def judge_leftovers(found: Iterable[Leftovers]) -> Iterator[Check]:
    """Yield a check for each folder of temporary files that is not empty."""
    for each in found:
        yield Check(
            name="temp",
            status="warning",
            found=f"{each.files} files ({human_size(each.size)}) in {each.folder}: ComfyUI is running, or it was "
            "killed. Previews in there may be of a run with another attention.",
            fix="ComfyUI empties the folder when it starts; while it does not run, the files can be deleted.",
            sources=("https://github.com/Comfy-Org/ComfyUI/issues/7739",),
        )
