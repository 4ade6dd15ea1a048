"""Whether a workflow fits what is known of the installed build and of the start scripts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from comfyui import graph, loader

from sagefix.checks import Check
from sagefix.comfyui.fields import find_fields
from sagefix.comfyui.judging import Build, Surroundings, judge_workflow
from sagefix.comfyui.judging_launch import judge_launch
from sagefix.comfyui.launching import given_launch
from sagefix.comfyui.table import load_comfyui
from sagefix.comfyui.workflows import parse_workflow

TABLE = load_comfyui()
BROKEN = Check(name="fault", status="failure", found="The kernel is never launched.")
PACKAGES = {"sageattention": "2.2.0", "torch": "2.11.0"}


def around(**more: Any) -> Surroundings:
    given = {"name": " --comfyui X", "archs": ("9.0",), "torch": "2.11.0", "packages": PACKAGES, **more}
    return Surroundings(**given)


def judged(document: dict[str, Any], surroundings: Surroundings) -> dict[str, Check]:
    workflow = parse_workflow("w.json", json.dumps(document).encode())
    fields = find_fields(workflow, TABLE, lambda *_: None)
    return {
        check.name.rpartition(": ")[2]: check
        for check in judge_workflow(workflow, fields, TABLE, surroundings)
    }


def mode(attention: str, surroundings: Surroundings, **more: Any) -> Check:
    return judged(graph(loader(1, attention, "bf16", **more)), surroundings)["attention_mode"]


@pytest.mark.parametrize(
    ("build", "status", "said", "fix"),
    [
        (Build(version="2.2.0", proof="numerics"), "ok", "is proven on this kind of GPU: numerics", ""),
        (Build(version="2.2.0", proof="full"), "ok", "is proven on this kind of GPU: full", ""),
        (
            Build(version="2.2.0", proof="import"),
            "warning",
            "Nothing proves the numbers",
            "sagefix verify --level numerics",
        ),
        (Build(version="2.2.0"), "warning", "Nothing proves the numbers", "--comfyui X"),
        (
            Build(version="2.2.0", proof="failed:numerics"),
            "failure",
            "failed level numerics",
            "sagefix install",
        ),
        (
            Build(version="2.2.0", broken=(BROKEN,), proof="full"),
            "failure",
            "never launched",
            "sagefix install",
        ),
    ],
)
def test_the_proof_of_the_installed_wheel(build: Build, status: str, said: str, fix: str) -> None:
    check = mode("sageattn", around(build=build))
    assert check.status == status
    assert said in check.found
    assert fix in check.fix


def test_sdpa_left_on() -> None:
    check = mode("sdpa", around(build=Build(version="2.2.0")))
    assert (check.status, check.fix) == ("warning", "`sagefix comfyui set w.json --attention sageattn`.")
    assert mode("sdpa", around()).status == "ok"
    assert mode("sdpa", around(build=Build(version="2.2.0", broken=(BROKEN,)))).status == "ok", (
        "sdpa is right then"
    )


def test_a_node_that_does_not_run_fails_nothing() -> None:
    check = mode("sageattn_3", around(), mode=4)
    assert check.status == "warning"
    assert "The node is bypassed" in check.found


def test_what_comfyui_was_started_with() -> None:
    build = Build(version="2.2.0", proof="full")
    plain = around(build=build, launches=(given_launch("--lowvram"),))
    sage = around(build=build, launches=(given_launch("--use-sage-attention"),))
    assert mode("comfy", plain).status == "warning"
    assert mode("comfy", sage).status == "ok"
    nothing = graph({"id": 1, "type": "KSampler"})
    assert judged(nothing, plain)["w.json"].status == "warning"
    assert judged(nothing, sage)["w.json"].status == "ok"
    (check,) = judge_launch(sage.launches[0], TABLE, sage)
    assert check.status == "ok"
    assert "is proven on this kind of GPU" in check.found


def test_what_cannot_be_told_is_a_warning_with_its_reason() -> None:
    check = judged(graph({"id": 1, "type": "WanVideoModelLoader", "widgets_values": [1, 2]}), around())[
        "attention_mode"
    ]
    assert check.status == "warning"
    assert "no order that is known" in check.found
