"""Installations of ComfyUI with real interpreters, and the commands that work on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from comfyui import api, graph, loader, make_app, make_embedded, make_pack, make_venv, write

from sagefix.comfyui.installations import Installation, find_installations, the_installation
from sagefix.comfyui.table import load_comfyui
from sagefix.errors import TargetError
from tests.integration.conftest import Here
from tests.integration.test_targets_interpreter import GXX, make_torch

TABLE = load_comfyui()
BARE = {"PATH": "/nonexistent"}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are scripts of a POSIX shell")


def find(folder: Path) -> Installation:
    (found,) = find_installations(folder, TABLE, BARE)
    return found


def portable(tmp_path: Path, name: str = "ComfyUI_windows_portable") -> Path:
    root = tmp_path / name
    make_app(root / "ComfyUI")
    make_embedded(root / "python_embeded")
    (root / "run_nvidia_gpu.bat").write_bytes(
        b".\\python_embeded\\python.exe -s ComfyUI\\main.py --windows-standalone-build --use-sage-attention\r\n"
        b"pause\r\n"
    )
    return root


# --- find


@pytest.mark.parametrize("inside", ["", "ComfyUI", "python_embeded", "ComfyUI/custom_nodes"])
def test_a_portable_one_is_found_from_wherever_one_stands_in_it(tmp_path: Path, inside: str) -> None:
    root = portable(tmp_path)
    found = find(root / inside)
    assert (found.kind, found.root, found.app) == ("portable", str(root), str(root / "ComfyUI"))
    assert found.python == str(root / "python_embeded" / "python.exe")
    assert found.version == "0.3.40"
    (candidate,) = found.candidates
    assert (candidate.kind, candidate.accepted) == ("embedded", True)
    assert "run_nvidia_gpu.bat starts it" in candidate.reasons
    assert "--use-sage-attention" in found.launches[0].words


def test_easy_install_is_portable_with_a_folder_of_add_ons(tmp_path: Path) -> None:
    root = portable(tmp_path, "ComfyUI-Easy-Install")
    (root / "Add-Ons").mkdir()
    assert find(root).kind == "easy-install"


@pytest.mark.parametrize("name", ["venv", ".venv", "my-env"])
def test_a_clone_with_its_environment_inside(tmp_path: Path, name: str) -> None:
    app = make_app(tmp_path / "ComfyUI")
    make_venv(app / name)
    found = find(app)
    assert (found.kind, found.python) == ("clone", str(app / name / "bin" / "python"))


def test_a_clone_with_its_environment_beside(tmp_path: Path) -> None:
    app = make_app(tmp_path / "ComfyUI")
    make_venv(tmp_path / "venv")
    assert find(app).python == find(tmp_path).python == str(tmp_path / "venv" / "bin" / "python")


def test_an_environment_beside_that_belongs_to_something_else_is_no_candidate(tmp_path: Path) -> None:
    app = make_app(tmp_path / "ComfyUI")
    make_venv(tmp_path / "blender-env")
    assert find(app).candidates == ()


def test_conda(tmp_path: Path) -> None:
    app = make_app(tmp_path / "ComfyUI")
    environment = make_venv(app / "env")
    (environment / "conda-meta").mkdir()
    (environment / "pyvenv.cfg").rename(environment / "pyvenv.cfg.kept")
    assert [(each.kind, each.accepted) for each in find(app).candidates] == [("conda", True)]


def test_the_active_environment_and_the_system_come_last(tmp_path: Path) -> None:
    app = make_app(tmp_path / "ComfyUI")
    venv = make_venv(tmp_path / "elsewhere" / "active")
    (active,) = find_installations(app, TABLE, {**BARE, "VIRTUAL_ENV": str(venv)})
    assert (active.candidates[0].kind, active.python) == ("active", str(venv / "bin" / "python"))
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    (system,) = find_installations(app, TABLE, {"PATH": str(programs)})
    assert (system.candidates[0].kind, system.python) == ("system", str(programs / "python3"))
    make_venv(app / "venv")
    (own,) = find_installations(app, TABLE, {"PATH": str(programs), "VIRTUAL_ENV": str(venv)})
    assert [each.kind for each in own.candidates] == ["venv"]


def test_the_desktop_app_by_its_folder_and_by_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "Documents-of-mine"
    for name in ("custom_nodes", "models", "user"):
        (base / name).mkdir(parents=True)
    make_venv(base / ".venv")
    found = find(base)
    assert (found.kind, found.app, found.python) == ("desktop", "", str(base / ".venv" / "bin" / "python"))
    home = tmp_path / "home"
    write(home / ".config" / "ComfyUI" / "config.json", {"basePath": str(base)})
    monkeypatch.setenv("HOME", str(home))
    (home / "empty").mkdir()
    monkeypatch.chdir(home / "empty")
    assert [each.root for each in find_installations(None, TABLE, BARE)] == [str(base)]


def test_several_pythons_are_a_choice_with_reasons(tmp_path: Path) -> None:
    app = make_app(tmp_path / "ComfyUI")
    make_venv(app / "venv")
    make_venv(app / ".venv")
    found = find(app)
    assert (found.python, [each.accepted for each in found.candidates]) == ("", [True, True])
    with pytest.raises(TargetError, match="2 Pythons may be the one") as raised:
        the_installation(app, TABLE)
    assert "--python" in raised.value.hint
    (app / "run.sh").write_text("cd ComfyUI\n. venv/bin/activate\npython main.py\n", encoding="utf-8")
    named = find(app)
    assert named.python == str(app / "venv" / "bin" / "python")
    refused = next(each for each in named.candidates if not each.accepted)
    assert refused.reasons[-1] == "the start scripts name another one"


@pytest.mark.skipif(
    GXX is None or not sys.platform.startswith("linux"), reason="makes a small torch with g++"
)
def test_the_one_with_torch_is_chosen_unless_the_start_script_names_another(tmp_path: Path) -> None:
    app = make_app(tmp_path / "ComfyUI")
    make_venv(app / "venv")
    (site,) = make_venv(app / ".venv").glob("lib/python*/site-packages")
    make_torch(site)
    found = find(app)
    assert found.python == str(app / ".venv" / "bin" / "python")
    assert [each.reasons[-1] for each in found.candidates] == ["it has torch 2.9.1+cu128", "it has no torch"]
    (app / "run.sh").write_text("venv/bin/python main.py\n", encoding="utf-8")
    assert find(app).python == ""


def test_a_python_that_cannot_be_started_is_refused_with_the_reason(tmp_path: Path) -> None:
    app = make_app(tmp_path / "ComfyUI")
    venv = make_venv(app / "venv")
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    (venv / "bin" / "python").chmod(0o755)
    with pytest.raises(TargetError, match=r"No Python of .* can be used"):
        the_installation(app, TABLE)


def test_several_installations_in_a_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_venv(make_app(tmp_path / name) / "venv")
    assert len(find_installations(tmp_path, TABLE, BARE)) == 2
    with pytest.raises(TargetError, match="2 installations"):
        the_installation(tmp_path, TABLE)


def test_a_folder_without_comfyui(tmp_path: Path, here: Here) -> None:
    said = here("comfyui", "find", tmp_path, json_=True)
    assert (said.code, said.answer["error"]["name"]) == (5, "target")
    assert here("comfyui", "find", tmp_path / "none").code == 5


def test_find_draws_what_it_found(tmp_path: Path, here: Here) -> None:
    root = portable(tmp_path)
    said = here("comfyui", "find", root)
    assert said.code == 0
    assert "ComfyUI 0.3.40 (portable)" in said.out
    assert "chosen" in said.out
    answer = here("comfyui", "find", root, json_=True).result
    assert answer[0]["python"].endswith("python_embeded/python.exe")


# --- --comfyui in place of --python


def test_an_installation_in_place_of_a_python(tmp_path: Path, here: Here) -> None:
    root = portable(tmp_path)
    python = str(root / "python_embeded" / "python.exe")
    verified = here("verify", "--comfyui", root, "--pin", "demo", "--level", "static", json_=True)
    assert verified.code == 16, "nothing is installed there"
    named = here("verify", "--python", python, "--pin", "demo", "--level", "static", json_=True)
    assert verified.answer["result"]["interpreter"] == named.answer["result"]["interpreter"]
    assert here("doctor", "--comfyui", tmp_path / "none", json_=True).answer["error"]["name"] == "target"


@pytest.mark.parametrize(
    "command",
    [["install"], ["verify"], ["doctor"], ["bench"], ["save-wheel"], ["build"], ["toolchain", "show"]],
)
def test_both_are_too_many(tmp_path: Path, here: Here, command: list[str]) -> None:
    said = here(*command, "--python", sys.executable, "--comfyui", tmp_path, json_=True)
    assert (said.code, said.answer["error"]["name"]) == (2, "usage")
    assert "not both" in said.answer["error"]["hint"]


def test_what_was_typed_counts_before_a_variable(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = portable(tmp_path)
    monkeypatch.setenv("SAGEFIX_PYTHON", str(tmp_path / "no-python"))
    said = here("verify", "--comfyui", root, "--pin", "demo", "--level", "static", json_=True)
    assert said.answer["result"]["interpreter"]
    monkeypatch.setenv("SAGEFIX_COMFYUI", str(tmp_path / "nothing"))
    both = here("verify", "--pin", "demo", "--level", "static", json_=True)
    assert both.answer["error"]["name"] == "usage"
    typed = here("verify", "--python", sys.executable, "--pin", "demo", "--level", "static", json_=True)
    assert typed.answer["result"]["interpreter"] == sys.executable


# --- check


def installation(tmp_path: Path) -> Path:
    app = make_app(tmp_path / "ComfyUI")
    make_venv(app / "venv")
    make_pack(app)
    return app


def install(app: Path, name: str, version: str = "1.0") -> None:
    """A distribution of which there is no more than its METADATA."""
    (site,) = (app / "venv").glob("lib/python*/site-packages")
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8"
    )


def checks(here: Here, *args: str | Path, code: int = 0) -> dict[str, tuple[str, str, str]]:
    said = here("comfyui", "check", *args, json_=True)
    assert said.code == code, said.answer
    rows = said.answer["result"]["checks"]
    return {row["name"].rpartition(": ")[2]: (row["status"], row["found"], row["fix"]) for row in rows}


def test_a_workflow_by_itself(tmp_path: Path, here: Here) -> None:
    file = write(tmp_path / "w.json", graph(loader(attention="sageattn", precision="bf16")))
    found = checks(here, file, "--arch", "9.0")
    assert found["attention_mode"][:2] == ("ok", "sageattn: SageAttention.")
    assert found["base_precision"][:2] == ("ok", "bf16: bfloat16.")


@pytest.mark.parametrize(
    ("arch", "attention", "status", "said"),
    [
        ("9.0", "sageattn_3", "failure", "It runs on 10.0, 12.0, 12.1 alone, and this is for 9.0."),
        ("12.0", "sageattn_3", "ok", ""),
        ("9.0", "flash_attn_3", "ok", ""),
        ("8.9", "flash_attn_3", "failure", "It runs on 9.0 alone"),
        ("9.0", "spargeattn", "ok", "SpargeAttn"),
        ("9.0", "sdpa", "ok", "torch's own"),
    ],
)
def test_what_fits_the_gpu(
    tmp_path: Path, here: Here, arch: str, attention: str, status: str, said: str
) -> None:
    file = write(tmp_path / "w.json", api(attention_mode=attention))
    found = checks(here, file, "--arch", arch, code=26 if status == "failure" else 0)
    assert found["attention_mode"][0] == status
    assert said in found["attention_mode"][1]


def test_a_kernel_that_a_node_names_for_another_gpu(tmp_path: Path, here: Here) -> None:
    patch = {"id": 1, "type": "PathchSageAttentionKJ", "widgets_values": ["sageattn_qk_int8_pv_fp8_cuda"]}
    found = checks(here, write(tmp_path / "w.json", graph(patch)), "--arch", "9.0", code=26)
    assert "which auto takes" in found["sage_attention"][1]


def test_precisions_that_go_wrong(tmp_path: Path, here: Here) -> None:
    both = graph(loader(1, "sageattn", "fp32"), loader(2, "sageattn", "bf16"))
    found = checks(here, write(tmp_path / "w.json", both))
    assert found["precision"][0] == "warning"
    assert "fp32 in node 1; bf16 in node 2" in found["precision"][1]
    alone = checks(here, write(tmp_path / "a.json", graph(loader(1, "sageattn", "fp32"))))
    assert alone["base_precision"][0] == "warning"
    assert "With sageattn" in alone["base_precision"][1]
    assert "--precision bf16" in alone["base_precision"][2]
    two = graph(loader(1, "sageattn", "fp16"), loader(2, "sageattn", "fp16_fast"))
    assert "precision" not in checks(here, write(tmp_path / "b.json", two)), "both are fp16"
    muted = graph(loader(1, "sageattn", "fp16"), loader(2, "sageattn", "bf16", mode=4))
    assert "precision" not in checks(here, write(tmp_path / "c.json", muted))


@pytest.mark.skipif(
    GXX is None or not sys.platform.startswith("linux"), reason="makes a small torch with g++"
)
def test_a_precision_that_the_installed_torch_does_not_have(tmp_path: Path, here: Here) -> None:
    app = make_app(tmp_path / "ComfyUI")
    (site,) = make_venv(app / "venv").glob("lib/python*/site-packages")
    make_torch(site, version="2.6.0+cu124", cuda="'12.4'")
    file = write(tmp_path / "w.json", api(base_precision="fp16_fast"))
    found = checks(here, file, "--python", app / "venv", code=26)
    assert "It needs torch 2.7, and 2.6.0+cu124 is installed" in found["base_precision"][1]


def test_packages_that_are_missing(tmp_path: Path, here: Here) -> None:
    app = installation(tmp_path)
    file = write(tmp_path / "w.json", graph(loader(attention="sageattn", precision="bf16")))
    found = checks(here, file, "--comfyui", app, code=26)
    assert found["attention_mode"][0] == "failure"
    assert found["attention_mode"][2] == f"`sagefix install --comfyui {app}`."
    third = write(tmp_path / "3.json", graph(loader(attention="sageattn_3", precision="bf16")))
    found = checks(here, third, "--comfyui", app, "--arch", "12.0", code=26)
    assert "sageattn3 and sageattention is not installed" in found["attention_mode"][1]
    assert "--attention sdpa" in found["attention_mode"][2]


def test_a_build_that_its_files_show_to_be_broken(tmp_path: Path, here: Here) -> None:
    app = installation(tmp_path)
    install(app, "sageattention", "2.2.0")
    file = write(tmp_path / "w.json", graph(loader(attention="sageattn", precision="bf16")))
    found = checks(here, file, "--comfyui", app, "--arch", "9.0", code=26)
    assert "What is installed (2.2.0) is broken" in found["attention_mode"][1]


def test_what_the_installed_pack_does_not_know(tmp_path: Path, here: Here) -> None:
    app = installation(tmp_path)
    found = checks(here, write(tmp_path / "w.json", api(attention_mode="comfy")), "--comfyui", app, code=26)
    assert (
        "is not among its values (sdpa, flash_attn_2, sageattn, sageattn_3), says"
        in found["attention_mode"][1]
    )
    assert found["ComfyUI-WanVideoWrapper"] == (
        "ok",
        f"1.3.0, in {app}/custom_nodes/ComfyUI-WanVideoWrapper",
        "",
    )


def test_a_pack_that_a_workflow_needs_and_that_is_not_there(tmp_path: Path, here: Here) -> None:
    app = installation(tmp_path)
    patch = {"id": 1, "type": "PathchSageAttentionKJ", "widgets_values": ["disabled"]}
    found = checks(here, write(tmp_path / "w.json", graph(patch)), "--comfyui", app, code=26)
    assert found["ComfyUI-KJNodes"][0] == "failure"


def test_launch_arguments(tmp_path: Path, here: Here) -> None:
    app = installation(tmp_path)
    assert checks(here, "--comfyui", app)["ComfyUI-WanVideoWrapper"][0] == "ok"
    (app / "run.sh").write_text(
        "#!/bin/sh\n# python main.py --use-flash-attention\n"
        "venv/bin/python main.py --listen \\\n  --use-sage-attention\n",
        encoding="utf-8",
    )
    found = checks(here, "--comfyui", app, code=26)
    assert "sageattention is not installed" in found["run.sh"][1]
    given = checks(here, "--comfyui", app, "--launch-args", "--lowvram")
    assert given["launch arguments"][:2] == (
        "ok",
        "No argument chooses attention: ComfyUI's own nodes call torch's.",
    )
    two = "--use-sage-attention --use-pytorch-cross-attention"
    said = here("comfyui", "check", "--comfyui", app, "--launch-args", two, json_=True)
    assert "exclude each other" in said.answer["result"]["checks"][0]["found"]
    file = write(tmp_path / "w.json", graph({"id": 1, "type": "KSampler"}))
    fp32 = checks(here, file, "--launch-args", "--use-sage-attention --force-fp32", code=26)
    assert "each call fails and falls back" in fp32["launch arguments"][1]


def test_leftovers_in_the_temp_folder(tmp_path: Path, here: Here) -> None:
    app = installation(tmp_path)
    (app / "temp" / "deep").mkdir(parents=True)
    assert "temp" not in checks(here, "--comfyui", app)
    (app / "temp" / "deep" / "x.png").write_bytes(b"1234")
    assert checks(here, "--comfyui", app)["temp"][0] == "warning"


def test_check_of_nothing_and_of_what_is_no_workflow(tmp_path: Path, here: Here) -> None:
    assert here("comfyui", "check").code == 2
    file = write(tmp_path / "w.json", {"a": 1})
    said = here("comfyui", "check", file, json_=True)
    assert (said.code, said.answer["error"]["name"]) == (26, "comfyui")


# --- set and log, as commands


def test_set_as_a_command(tmp_path: Path, here: Here) -> None:
    file = write(tmp_path / "w.json", graph(loader()))
    before = file.read_bytes()
    dry = here("comfyui", "set", file, "--attention", "sageattn", "--dry-run")
    assert (dry.code, file.read_bytes()) == (0, before)
    assert "sdpa -> sageattn" in dry.out
    said = here("comfyui", "set", file, "--attention", "sageattn", "--precision", "bf16", json_=True)
    assert [each["after"] for each in said.result[0]["changes"]] == ["bf16", "sageattn"]
    back = here("comfyui", "set", file, "--attention", "sdpa", "--precision", "fp16")
    assert (back.code, file.read_bytes()) == (0, before)
    again = here("comfyui", "set", file, "--attention", "sdpa")
    assert "already so" in again.out
    assert here("comfyui", "set", file).code == 2
    refused = here("comfyui", "set", file, "--attention", "sageattn_qk_int8_pv_fp16_cuda", json_=True)
    assert (refused.code, file.read_bytes()) == (26, before)
    assert refused.answer["error"]["details"]["refused"][0]["node"] == "22"
    assert refused.answer["result"][0]["written"] is False


def test_log_as_a_command(tmp_path: Path, here: Here) -> None:
    file = tmp_path / "comfyui.log"
    file.write_text("Using sage attention\nPrompt executed in 1.00 seconds\n", encoding="utf-8")
    assert here("comfyui", "log", file).code == 0
    file.write_text(
        "Using sage attention\nError running sage attention: SM90 kernel is not available., using pytorch attention "
        "instead.\n",
        encoding="utf-8",
    )
    said = here("comfyui", "log", file)
    assert said.code == 26
    assert "Every call fell back (1 time in this log)" in said.out
    assert here("comfyui", "log", file, json_=True).answer["result"]["ran"] == "fell back"
    file.write_text("nothing to see\n", encoding="utf-8")
    assert here("comfyui", "log", file).code == 22
    assert here("comfyui", "log", tmp_path / "none").code == 2


def test_log_from_standard_input(sagefix: object) -> None:
    done = subprocess.run(
        sagefix.command("comfyui", "log", "-", "--json"),  # type: ignore[attr-defined]
        input=b"Using sage attention\nPrompt executed in 1.00 seconds\n",
        capture_output=True,
        check=False,
        env=dict(os.environ),
    )
    assert json.loads(done.stdout)["result"]["ran"] == "ran"
