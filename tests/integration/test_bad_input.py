"""Everything a user can get wrong, or that goes wrong around a user, through the command line.

Each ends in the exit status of its kind, one clear message and nothing half-done. What each room refuses in
detail is tested beside the room.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from support import Server, make_wheel, serving

from sagefix import settings
from sagefix.targets.interpreter import probe
from sagefix.wheelhouse import remote
from tests.integration.conftest import Here, MakeTarget, Sagefix, Said, ask, python_of

DEMO = settings.PACKAGE.parent / "manifests"
VERSION = "import importlib.metadata as m; print(m.version('demoattention'))"
RIGHT = "import demoattention.__main__ as m; print(m.main())"


def _refused(said: Said, code: int, name: str, *words: str) -> None:
    """Check that a run was refused as it should be: its kind, its words, a hint, and no traceback anywhere."""
    assert said.code == code, said.out + said.err
    error = said.answer["error"]
    assert (error["name"], said.answer["ok"]) == (name, False)
    for word in words:
        assert word in error["message"], error["message"]
    assert error["hint"], error["message"]
    assert "Traceback" not in said.err
    assert "Exception ignored" not in said.err


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _tools(folder: Path, *names: str) -> dict[str, str]:
    """A PATH on which there are these programs alone."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return {"PATH": str(folder)}


def _git(folder: Path, *arguments: str, data: bytes = b"") -> str:
    env = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=env, input=data, capture_output=True, check=True
    )
    return done.stdout.decode().strip()


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def demo_wheel(base_target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo package, built once."""
    folder = tmp_path_factory.mktemp("demo")
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SAGEFIX_")},
        "PYTHONPATH": str(DEMO.parent),
        "SAGEFIX_CACHE_DIR": str(folder / "cache"),
        "SAGEFIX_WHEELHOUSE": str(folder / "wheels"),
    }
    command = ["build", "--pin", "demo", "--python", base_target, "--output", folder / "out", "--quiet"]
    subprocess.run([*Sagefix(folder).command(*command)], cwd=folder, env=env, check=True)
    (wheel,) = (folder / "out").glob("*.whl")
    return wheel


@pytest.fixture
def at_hand(sagefix: Sagefix, demo_wheel: Path) -> Path:
    """The demo wheel, kept in this test's wheelhouse; its path there."""
    return Path(sagefix("wheelhouse", "add", demo_wheel).result[0]["where"])


# Pins, refs and sources


class Own:
    """A pin of one's own: the demo package at a commit whose first digits are decimal, in a repository."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "repository"
        self.manifests = folder / "manifests"
        shutil.copytree(DEMO / "demo", self.repository, ignore=shutil.ignore_patterns("__pycache__"))
        _git(self.repository, "init", "--quiet", "--initial-branch=main")
        _git(self.repository, "config", "core.filemode", "false")
        _git(self.repository, "add", "--all")
        self.tree = _git(self.repository, "write-tree")
        self.commit = self._digits_only()
        _git(self.repository, "update-ref", "refs/heads/main", self.commit)
        self.manifests.mkdir()
        self.write()

    def _digits_only(self) -> str:
        for number in range(1_000_000):
            who = "nobody <nobody@localhost> 1700000000 +0000"
            text = f"tree {self.tree}\nauthor {who}\ncommitter {who}\n\nnumber {number}\n".encode()
            name = hashlib.sha1(b"commit %d\0" % len(text) + text).hexdigest()
            if name[0] == "0" and name[:7].isdigit():
                return _git(self.repository, "hash-object", "-t", "commit", "-w", "--stdin", data=text)
        raise AssertionError

    def write(self, old: str = "", new: str = "") -> None:
        """Write the manifest: the demo's, from this repository; with a change."""
        text = (DEMO / "demo.toml").read_text()
        pinned, tree = _value(text, "commit"), _value(text, "tree")
        text = text.replace('embedded = "demo"', f'url = "file://{self.repository}"')
        text = text.replace('name = "demo"\nproject', 'name = "own"\nproject')
        text = text.replace(pinned, self.commit).replace(tree, self.tree)
        assert old in text
        (self.manifests / "own.toml").write_text(text.replace(old, new, 1))


def _value(text: str, key: str) -> str:
    return next(line.split('"')[1] for line in text.splitlines() if line.startswith(f"{key} = "))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    made = Own(tmp_path / "own")
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(made.manifests))
    return made


def test_a_commit_of_digits_only_keeps_its_zero(sagefix: Sagefix, make_target: MakeTarget, own: Own) -> None:
    target = make_target()
    short = own.commit[:7]
    result = sagefix("install", "--pin", "own", "--python", target, "--ref", short).result
    label = result["version"].partition("+")[2]
    assert label.lstrip("g").startswith(short)
    assert not label.isdigit()
    assert ask(target, VERSION) == result["version"]
    again = sagefix("install", "--pin", "own", "--python", target).result
    assert (again["action"], again["version"]) == ("already installed", result["version"])


def test_refs_that_lead_nowhere(sagefix: Sagefix, own: Own, own_environment: Path) -> None:
    for ref in ("0123456", "9999999", "abcdef0", "0" * 40, "v9.9", "refs/heads/nope"):
        said = sagefix("source", "fetch", "--pin", "own", "--ref", ref)
        _refused(said, 9, "source", ref)
    for ref in ("--upload-pack=sh", "a b", "HEAD~1", ""):
        _refused(sagefix("source", "fetch", "--pin", "own", "--ref", ref), 3, "pin", "is not a commit")
    assert sagefix("source", "fetch", "--pin", "own", "--ref", "main").result["commit"] == own.commit


def test_a_bundle_of_another_repository(sagefix: Sagefix, own: Own, tmp_path: Path) -> None:
    bundle = tmp_path / "own.bundle"
    assert sagefix("source", "bundle", bundle, "--pin", "own").code == 0
    other = {"SAGEFIX_MANIFESTS": str(DEMO)}
    for words in (["source", "fetch"], ["install", "--python", sys.prefix, "--no-build"]):
        said = sagefix(*words, "--pin", "sageattention", "--ref", "0" * 40, "--source", bundle, env=other)
        _refused(said, 9, "source", str(bundle), own.commit[:7])
    bundle.write_bytes(bundle.read_bytes()[:-100])
    _refused(sagefix("source", "fetch", "--pin", "own", "--source", bundle), 9, "source", "own.bundle")
    _refused(sagefix("source", "fetch", "--pin", "own", "--source", tmp_path / "no"), 9, "source", "no")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        (
            "memory_gib = 0.1",
            'memory_gib = "much"',
            "memory_gib",
            "expected `float`, got `str`".replace("`", ""),
        ),
        ('summary = "', "summary = 3 # ", "summary", "expected str, got int"),
        ("schema = 1", "schema = 2", "schema", "schema"),
        ("[build]", "[bulid]", "[bulid]", "bulid"),
        ("[build]", "[build", "[build", "not valid TOML"),
    ],
)
def test_a_manifest_with_a_mistake(
    sagefix: Sagefix, own: Own, old: str, new: str, line: str, says: str
) -> None:
    own.write(old, new)
    file = own.manifests / "own.toml"
    number = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if text.startswith(line))
    for words in (["pins", "list"], ["install", "--pin", "own"]):
        _refused(sagefix(*words), 3, "pin", f"own.toml:{number}: ", says)


def test_manifests_of_ones_own(sagefix: Sagefix, own: Own, tmp_path: Path) -> None:
    assert [pin["name"] for pin in sagefix("pins", "list").result] == ["own"]
    _refused(sagefix("pins", "show", "demo"), 3, "pin", "demo")
    nowhere = sagefix("pins", "list", env={"SAGEFIX_MANIFESTS": str(tmp_path / "nowhere")})
    _refused(nowhere, 2, "usage", "SAGEFIX_MANIFESTS")
    for name in ("../demo", "own.toml", "/etc/passwd", "OWN", ""):
        _refused(sagefix("pins", "show", name), 3, "pin")


def test_without_a_network(sagefix: Sagefix) -> None:
    started = time.monotonic()
    # Port 9 discards, and on most machines nobody listens there at all.
    said = sagefix(
        "source", "fetch", env={"https_proxy": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": ""}
    )
    assert time.monotonic() - started < 15
    _refused(said, 9, "source", "could not be reached")
    assert "source bundle" in said.answer["error"]["hint"]
    assert "https_proxy" in said.answer["error"]["hint"]


# Interpreters


def test_interpreters_that_are_none(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = "case \"$1\" in -c) echo 'sagefix: 3.8.18';; *) echo SyntaxError >&2; exit 1;; esac"
    bad = {
        str(tmp_path / "nope"): "There is no Python at",
        str(tmp_path): "there is no Python in it",
        "/bin/sh": "is not a Python",
        str(_program(tmp_path / "old" / "python3.8", old)): "is Python 3.8.18; sagefix needs 3.9",
        str(_program(tmp_path / "crash" / "python", "echo 'no encodings' >&2; kill -SEGV $$")): "SIGSEGV",
        str(_program(tmp_path / "hang" / "python", "sleep 60")): "did not answer within 1 s",
    }
    assert probe.__kwdefaults__ is not None
    monkeypatch.setitem(probe.__kwdefaults__, "timeout", 1.0)
    for python, says in bad.items():
        for command in ("install", "verify", "save-wheel"):
            if python.endswith(("hang/python", "nope")) and command != "install":
                continue
            _refused(here(command, "--pin", "demo", "--python", python, json_=True), 5, "target", says)
    assert not Path(os.environ["SAGEFIX_WHEELHOUSE"]).joinpath("demoattention").exists()


def test_real_old_pythons(sagefix: Sagefix) -> None:
    kept = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    if not os.access(kept, os.R_OK | os.X_OK):
        pytest.skip("no pyenv here")
    pythons = [*kept.glob("2.7.*/bin/python"), *kept.glob("3.[5-8].*/bin/python")]
    if not pythons:
        pytest.skip("pyenv has no Python older than 3.9")
    for python in pythons:
        version = python.parents[1].name
        said = sagefix("install", "--pin", "demo", "--python", python)
        _refused(said, 5, "target", f"is Python {version}; sagefix needs 3.9")


def test_every_way_to_name_a_python(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path, at_hand: Path
) -> None:
    target = make_target("zwölf ∞ spaces", build=False)
    elsewhere = tmp_path / "link to python"
    elsewhere.symlink_to(target)
    relative = os.path.relpath(target, sagefix.folder)
    words = ["install", "--pin", "demo", "--no-build"]
    first = sagefix(*words, "--python", target).result
    assert first["action"] == "installed"
    for name in (
        relative,
        f"{relative}/bin/python",
        elsewhere,
        elsewhere / "bin" / "python3",
        python_of(target),
    ):
        again = sagefix(*words, "--python", name).result
        assert again["action"] == "already installed", name
    active = sagefix(*words, env={"VIRTUAL_ENV": str(target)}).result
    assert active["action"] == "already installed"
    named = sagefix(*words, env={"SAGEFIX_PYTHON": relative}).result
    assert named["action"] == "already installed"
    assert ask(target, RIGHT).endswith("right\n0")


def test_building_where_names_are_odd(sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path) -> None:
    target = make_target("zwölf ∞ spaces")
    odd = {
        "SAGEFIX_CACHE_DIR": str(tmp_path / "a cache ü 100%"),
        "SAGEFIX_WHEELHOUSE": str(tmp_path / "some wheels %20 @;"),
        "TMPDIR": str(tmp_path / "not there"),
    }
    result = sagefix("install", "--pin", "demo", "--python", target, env=odd).result
    assert result["compiled"] is True
    assert ask(target, RIGHT).endswith("right\n0")
    second = make_target("second", build=False)
    house = Path(odd["SAGEFIX_WHEELHOUSE"]).as_uri()
    assert sagefix("install", "--pin", "demo", "--python", second, "--no-build", "--index", house).code == 0
    assert ask(second, RIGHT).endswith("right\n0")


def test_what_lies_in_the_working_folder_does_not_matter(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path, demo_wheel: Path
) -> None:
    for name in ("typing", "json", "os", "pip", "setuptools", "demoattention", "sagefix", "probe"):
        (sagefix.folder / f"{name}.py").write_text(
            f"raise SystemExit('imported {name} of the working folder')\n"
        )
    (sagefix.folder / "uv.toml").write_text('[pip]\ntarget = "elsewhere"\n')
    (sagefix.folder / "pip.conf").write_text("[install]\ntarget = elsewhere\n")
    # As the installed program does, without the working folder on sys.path; -P is not there before Python 3.11.
    program = tmp_path / "sagefix-program.py"
    program.write_text("from sagefix.cli.app import main\nmain()\n")
    env = {
        **os.environ,
        "PIP_CONFIG_FILE": str(sagefix.folder / "pip.conf"),
        "PIP_TARGET": "elsewhere",
        "UV_TARGET": "elsewhere",
        "PIP_ROOT": "elsewhere",
    }
    target = make_target()

    def run(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, program, *words, "--pin", "demo", "--python", target],
            cwd=sagefix.folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("install", "--installer", "uv")
    run("verify")
    if find_spec("pip") is not None:
        run("install", "--reinstall", "--installer", "pip")
    run("save-wheel")
    assert not (sagefix.folder / "elsewhere").exists()
    assert ask(target, RIGHT).endswith("right\n0")


def test_a_python_of_the_operating_system(
    sagefix: Sagefix, make_target: MakeTarget, own_environment: Path, at_hand: Path
) -> None:
    target = make_target(build=False)
    (site,) = target.glob("lib/python*/site-packages")
    # What marks such a Python stands beside its standard library, and counts outside of environments only.
    (site / "managed.py").write_text(
        "import os, sys, sysconfig\n"
        f"folder = {str(own_environment / 'stdlib')!r}\n"
        "os.makedirs(folder, exist_ok=True); open(os.path.join(folder, 'EXTERNALLY-MANAGED'), 'w').close()\n"
        "paths = sysconfig.get_paths\n"
        "sysconfig.get_paths = lambda *a, **k: {**paths(*a, **k), 'stdlib': folder}\n"
        "sys.base_prefix = sys.prefix\n"
    )
    (site / "managed.pth").write_text("import managed\n")
    words = ["install", "--pin", "demo", "--no-build", "--python", str(target)]
    said = sagefix(*words)
    _refused(said, 15, "install", "managed by the operating system")
    assert "--break-system-packages" in said.answer["error"]["hint"]
    assert "No module" in ask(target, "import demoattention")
    dry = sagefix(*words, "--break-system-packages", "--dry-run").result
    assert "--break-system-packages" in dry["commands"][0]


def test_a_target_without_pip_and_a_machine_without_uv(
    sagefix: Sagefix, here: Here, make_target: MakeTarget, at_hand: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make_target(build=False)
    words = ["install", "--pin", "demo", "--no-build", "--python", str(target)]
    if find_spec("pip") is not None:
        # sagefix's own pip installs into it.
        done = sagefix(*words, "--installer", "pip").result
        assert "--python" in done["commands"][0]
        assert ask(target, RIGHT).endswith("right\n0")
    monkeypatch.setattr("sagefix.installing.installer.find_spec", lambda _: None)
    monkeypatch.setattr("sagefix.installing.installer.find_program", lambda _: None)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    said = here(*words, "--reinstall", json_=True)
    _refused(said, 15, "install", "neither uv nor pip")
    assert "ensurepip" in said.answer["error"]["hint"]


# Tools and folders


def test_tools_that_are_missing(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path, own_environment: Path
) -> None:
    target = make_target()
    words = ["--pin", "demo", "--python", str(target)]
    no_git = _tools(tmp_path / "no git", "sh", "cc", "gcc", "as", "ld")
    _refused(sagefix("install", *words, env=no_git), 9, "source", "git was not found")
    no_cc = _tools(tmp_path / "no cc", "sh", "git")
    _refused(sagefix("install", *words, env=no_cc), 8, "toolchain", "No C compiler was found")
    wrong = sagefix("build", *words, env={"CC": "nonesuch -O2"})
    _refused(wrong, 8, "toolchain", "CC names", "nonesuch")
    told = sagefix("doctor", *words, env=_tools(tmp_path / "neither", "sh"))
    assert (told.code, told.answer["error"]["name"]) == (17, "doctor")
    failed = {check["name"]: check for check in told.answer["result"] if check["status"] == "failure"}
    assert set(failed) == {"host compiler", "source"}
    assert all(check["fix"] for check in failed.values())
    # Git alone is enough where nothing is compiled, and a C compiler where nothing is C++.
    own = str(sysconfig.get_config_var("CC") or "cc").split()[0]
    c_alone = _tools(tmp_path / "c", *dict.fromkeys(["sh", "git", "cc", "gcc", "as", "ld", own]))
    assert sagefix("build", *words, env=c_alone).code == 0
    assert sagefix("install", *words, "--no-build", env={"PATH": str(tmp_path)}).code == 0


def test_a_cache_folder_that_cannot_be(sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path) -> None:
    target = make_target()
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "cache", Path("/proc/nowhere")):
        env = {"SAGEFIX_CACHE_DIR": str(place)}
        said = sagefix("install", "--pin", "demo", "--python", target, env=env)
        _refused(said, 18, "disk", str(place))
        assert "SAGEFIX_CACHE_DIR" in said.answer["error"]["hint"]
    told = sagefix("doctor", "--pin", "demo", "--python", target, env=env)
    assert told.code == 17
    assert "disk" in [check["name"] for check in told.answer["result"] if check["status"] == "failure"]
    assert sagefix("verify", "--pin", "demo", "--python", target, env=env).code == 16


def test_a_home_that_is_missing(
    sagefix: Sagefix, make_target: MakeTarget, at_hand: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, other = make_target(build=False), make_target("other", build=False)
    words = ["install", "--pin", "demo", "--no-build", "--python", str(target)]
    monkeypatch.delenv("HOME")
    # Then the user's entry in the list of users counts, and what that says need not be there either.
    assert sagefix(*words, env={"UV_CACHE_DIR": str(target.parent / "uv")}).code == 0
    # uv keeps files at home; pip does without.
    nowhere = {"HOME": "/proc/nowhere"}
    words[-1] = str(other)
    _refused(sagefix(*words, "--installer", "uv", env=nowhere), 15, "install", "/proc/nowhere")
    assert "No module" in ask(other, "import demoattention")
    if find_spec("pip") is not None:
        assert sagefix(*words, "--installer", "pip", env=nowhere).code == 0
        assert ask(other, RIGHT).endswith("right\n0")
    monkeypatch.delenv("SAGEFIX_CACHE_DIR")
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform == "linux":
        _refused(sagefix(*words, "--reinstall", env=nowhere), 18, "disk", "/proc/nowhere")


# Wheels and wheelhouses


def _renamed(wheel: Path) -> Path:
    return wheel.rename(wheel.with_name(wheel.name.replace("2.2.0", "2.2.1")))


def _changed(wheel: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        members = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for info, data in members.items():
            archive.writestr(info, data.replace(b"value = 1", b"value = 2"))
    return wheel


def _escaping(wheel: Path) -> Path:
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("../../evil.py", "boo")
    return wheel


def _truncated(wheel: Path) -> Path:
    wheel.write_bytes(wheel.read_bytes()[:-60])
    return wheel


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(_renamed, "2.2.1"), (_changed, "sageattention.py"), (_escaping, "evil.py"), (_truncated, "")],
)
def test_wheels_that_are_not_taken_in(sagefix: Sagefix, tmp_path: Path, spoil, says: str) -> None:  # type: ignore[no-untyped-def]
    wheel = spoil(make_wheel(tmp_path / "dist", version="2.2.0"))
    good = make_wheel(tmp_path / "dist", version="2.2.3")
    _refused(sagefix("wheelhouse", "add", wheel, good), 11, "wheel", says)
    assert sagefix("wheelhouse", "list").result == []
    assert sagefix("wheelhouse", "add", good).code == 0
    assert sagefix("wheelhouse", "check").code == 0
    assert not (tmp_path / "evil.py").exists()


def test_places_that_are_no_wheelhouse(sagefix: Sagefix, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    wheel = make_wheel(tmp_path / "dist")
    for place in ("file", "file/below", "photos"):
        said = sagefix("wheelhouse", "add", wheel, "--wheelhouse", tmp_path / place)
        _refused(said, 12, "wheelhouse", str(tmp_path / place))
    assert _names(tmp_path / "photos") == ["cat.jpg"]
    _refused(sagefix("wheelhouse", "add", tmp_path / "no-1.0-py3-none-any.whl"), 11, "wheel", "no-1.0")
    _refused(sagefix("wheelhouse", "remove", "../file"), 12, "wheelhouse", "../file")
    _refused(sagefix("wheelhouse", "check", "--wheelhouse", tmp_path / "none"), 12, "wheelhouse", "none")


def _alone(sagefix: Sagefix, mount: str, *commands: list[str | Path]) -> list[str]:
    """Run commands where something is mounted for them alone; return all that each has said."""
    if (
        sys.platform != "linux"
        or subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("mount namespaces are not allowed here")
    words = [" ".join(f"'{word}'" for word in sagefix.command(*command, "--json")) for command in commands]
    script = f"{mount} || exit 1; " + "; ".join(f"{each} 2>&1; echo code=$?; echo ----" for each in words)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        capture_output=True,
        text=True,
        cwd=sagefix.folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("----\n")


def test_a_wheelhouse_that_is_read_only(
    sagefix: Sagefix, make_target: MakeTarget, at_hand: Path, own_environment: Path
) -> None:
    house = at_hand.parents[1]
    target = make_target()
    words: list[str | Path] = ["--pin", "demo", "--python", target]
    installed, built, added, checked, _ = _alone(
        sagefix,
        f"mount --bind '{house}' '{house}' && mount -o remount,ro,bind '{house}'",
        ["install", *words, "--no-build"],
        ["build", *words, "--rebuild"],
        ["wheelhouse", "add", at_hand, "--replace"],
        ["wheelhouse", "check"],
    )
    assert "code=0" in installed
    assert "warning: The proof was not kept" in installed
    # Refused before anything is compiled.
    assert '"name":"wheelhouse"' in built
    assert "is not writable" in built
    assert "code=12" in built
    assert not (own_environment / "builds").exists() or not list((own_environment / "builds").glob("*/src"))
    assert "code=18" in added
    assert "code=0" in checked


def test_a_disk_that_is_full(
    sagefix: Sagefix, make_target: MakeTarget, at_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make_target()
    words: list[str | Path] = ["--pin", "demo", "--python", target]
    assert sagefix("install", *words, "--no-build").code == 0
    small = tmp_path / "small"
    small.mkdir()
    monkeypatch.setenv("SAGEFIX_CACHE_DIR", str(small))
    outputs = _alone(
        sagefix,
        f"mount -t tmpfs -o size=24k tmpfs '{small}'",
        ["source", "fetch", "--pin", "demo"],
        ["build", *words, "--rebuild"],
        ["save-wheel", *words, "--wheelhouse", tmp_path / "saved"],
        ["install", *words, "--no-build", "--reinstall"],
    )
    for said in outputs[:-1]:
        assert "code=18" in said, outputs
        assert '"name":"disk"' in said
        assert str(small) in said
        assert "Traceback" not in said
        assert "Exception ignored" not in said
    assert ask(target, RIGHT).endswith("right\n0")
    assert not list((tmp_path / "saved").glob("*/*.whl*"))


def test_a_failure_of_the_target_is_not_held_against_the_wheel(
    sagefix: Sagefix, make_target: MakeTarget, at_hand: Path
) -> None:
    target = make_target(build=False)
    words = ["--pin", "demo", "--python", str(target)]
    assert sagefix("install", *words, "--no-build").code == 0
    (site,) = target.glob("lib/python*/site-packages")
    (site / "demoattention" / "shapes.py").write_text("<<<<<<<\n")
    verdict = sagefix("verify", *words)
    assert (verdict.code, verdict.answer["error"]["name"]) == (16, "verification")
    assert not sagefix("wheelhouse", "list").result[0]["proof"].startswith("failed")
    # The same command as ever puts it right, from the wheel at hand.
    said = sagefix("install", *words, "--no-build")
    assert said.result["action"] == "installed"
    assert "does not pass" in said.err
    assert sagefix("verify", *words).code == 0
    assert ask(target, RIGHT).endswith("right\n0")


# Indexes


@pytest.fixture
def server(tmp_path: Path, demo_wheel: Path, no_proxies: None) -> Iterator[Server]:
    """A server of a folder that is an index of the demo wheel, until a test makes it another."""
    folder = tmp_path / "served" / "demoattention"
    folder.mkdir(parents=True)
    shutil.copy(demo_wheel, folder)
    with serving(tmp_path / "served") as running:
        _page(running, demo_wheel)
        yield running


def _page(server: Server, wheel: Path, *, href: str = "", sha256: str = "", name: str = "") -> None:
    digest = sha256 or hashlib.sha256(wheel.read_bytes()).hexdigest()
    link = href or wheel.name.replace("+", "%2B")
    body = f'<!DOCTYPE html><a href="{link}#sha256={digest}">{name or wheel.name}</a>'
    server.behaviour["/demoattention/"] = lambda handler: handler.answer(body.encode())


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question to an index is asked once and briefly, in this process."""
    assert remote.candidates.__kwdefaults__ is not None
    monkeypatch.setitem(remote.candidates.__kwdefaults__, "timeout", 0.3)
    monkeypatch.setitem(remote.RemoteIndex.__init__.__kwdefaults__, "attempts", 1)


def test_an_index_that_is_gone_and_one_that_is_right(
    sagefix: Sagefix, here: Here, make_target: MakeTarget, server: Server, hasty: None
) -> None:
    words = ["install", "--pin", "demo", "--no-build", "--python", str(make_target(build=False)), "--index"]
    nobody = "http://127.0.0.1:9/"
    _refused(here(*words, nobody, json_=True), 13, "index", nobody)
    assert sagefix(*words, server.url).result["compiled"] is False
    assert ask(Path(words[5]), RIGHT).endswith("right\n0")
    assert len(sagefix("wheelhouse", "list").result) == 1
    # With a wheel at hand, an index that is gone is a warning.
    gone = here(*words, nobody, json_=True)
    assert (gone.code, gone.answer["result"]["action"]) == (0, "already installed")
    assert f"warning: {nobody}" in gone.err


def test_indexes_that_lie(
    here: Here, make_target: MakeTarget, server: Server, demo_wheel: Path, own_environment: Path, hasty: None
) -> None:
    target = make_target(build=False)
    words = ["install", "--pin", "demo", "--no-build", "--index", server.url, "--python", str(target)]

    def refused(code: int, name: str, *says: str) -> None:
        _refused(here(*words, json_=True), code, name, *says)
        assert not Path(os.environ["SAGEFIX_WHEELHOUSE"], "demoattention").exists()
        assert not list(own_environment.rglob("*.whl"))
        assert "No module" in ask(target, "import demoattention")

    _page(server, demo_wheel, sha256="0" * 64)
    refused(13, "index", demo_wheel.name, "sha256")
    _page(server, demo_wheel, name="../x.whl", href="../x.whl")
    refused(14, "no-wheel")
    _page(server, demo_wheel, href=f"http://127.0.0.1:9/{demo_wheel.name}")
    refused(13, "index", "127.0.0.1:9")
    spoiled = f"/demoattention/{demo_wheel.name.replace('+', '%2B')}"
    _page(server, demo_wheel)
    server.behaviour[spoiled] = lambda handler: handler.answer(demo_wheel.read_bytes()[:-50])
    refused(13, "index", demo_wheel.name)
    for place, says in (("file:///etc/passwd", "only https is followed"), ("/demoattention/", "redirect")):
        server.behaviour["/demoattention/"] = lambda handler, place=place: handler.answer(  # type: ignore[misc]
            b"", status=302, Location=place
        )
        refused(13, "index", says)
    server.behaviour["/demoattention/"] = lambda _: server.ended.wait(20) and None
    refused(13, "index", "did not answer within 0.3 s")


def test_addresses_that_are_no_index(sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path) -> None:
    words = ["install", "--pin", "demo", "--no-build", "--python", str(make_target(build=False)), "--index"]
    for address in (
        "wheels",
        "ftp://example.org/",
        "http://example.org/simple/",
        tmp_path.as_uri() + "/none",
    ):
        _refused(sagefix(*words, address), 13, "index", address.rstrip("/"))
    both = sagefix(*words, "https://example.org/simple/", "--offline")
    _refused(both, 13, "index", "--offline")


# Interrupted, then the same command again


def _stop(
    sagefix: Sagefix, words: list[str], started: Path, number: int, env: dict[str, str] | None = None
) -> str:
    """Start a command, stop it as soon as a file is there, and return what it said on its way out."""
    process = sagefix.start(*words, env=env)
    deadline = time.monotonic() + 30
    while not started.exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), err
    assert "Traceback" not in err
    if number != signal.SIGKILL:
        assert '"name":"interrupted"' in out
    return str(err)


def _alive(word: Path) -> list[int]:
    """The other processes that have a path on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if str(word).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@SIGNALS
@pytest.mark.parametrize("what", ["fetch", "bundle"])
def test_fetching_is_interrupted(
    sagefix: Sagefix, own: Own, tmp_path: Path, own_environment: Path, number: int, what: str
) -> None:
    real, started = shutil.which("git"), tmp_path / "started"
    word = {"fetch": "fetch", "bundle": "pack-objects"}[what]
    text = f'case " $* " in *" {word} "*) touch "{started}"; sleep 30;; esac\nexec {real} "$@"'
    env = {"PATH": f"{_program(tmp_path / 'bin' / 'git', text).parent}:{os.environ['PATH']}"}
    bundle = tmp_path / "out" / "own.bundle"
    bundle.parent.mkdir()
    words = ["source", what, *([str(bundle)] if what == "bundle" else []), "--pin", "own", "--json"]
    _stop(sagefix, words, started, number, env)
    if number != signal.SIGKILL:
        assert _alive(tmp_path / "bin") == []
        assert _names(bundle.parent) == []
    assert not bundle.exists()
    assert sagefix(*words[:-1]).result["commit"] == own.commit
    assert _names(bundle.parent) == (["own.bundle"] if what == "bundle" else [])
    assert sagefix("source", "fetch", "--pin", "own", "--offline").result["from_cache"] is True


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@SIGNALS
@pytest.mark.parametrize("command", ["save-wheel", "verify"])
def test_looking_at_a_target_is_interrupted(
    sagefix: Sagefix, make_target: MakeTarget, at_hand: Path, tmp_path: Path, number: int, command: str
) -> None:
    target, started, slow = make_target(build=False), tmp_path / "started", tmp_path / "slow"
    words = ["--pin", "demo", "--python", str(target)]
    assert sagefix("install", *words, "--no-build", "--verify", "none").code == 0
    (site,) = target.glob("lib/python*/site-packages")
    # Every Python of this target takes its time while the file is there; for verify, those that import.
    when = f"os.path.exists({str(slow)!r})"
    if command == "verify":
        when += " and any('imports.py' in word for word in sys.orig_argv)"
    line = f"import os, sys, time; {when} and (open({str(started)!r}, 'w').close(), time.sleep(30))\n"
    (site / "slow.pth").write_text(line)
    slow.touch()
    _stop(sagefix, [command, *words, "--json"], started, number)
    if number != signal.SIGKILL:
        assert _alive(target) == []
    slow.unlink()
    again = sagefix(command, *words)
    assert again.code == 0, again.answer
    assert sagefix("wheelhouse", "check").code == 0
    for pid in _alive(target):
        os.kill(pid, signal.SIGKILL)


def test_two_installs_into_one_target_wait_for_each_other(
    sagefix: Sagefix, make_target: MakeTarget, at_hand: Path, tmp_path: Path
) -> None:
    target, started = make_target(build=False), tmp_path / "started"
    text = f'touch "{started}"\nsleep 1\nexec {shutil.which("uv")} "$@"'
    slow = {"PATH": f"{_program(tmp_path / 'bin' / 'uv', text).parent}:{os.environ['PATH']}"}
    words = ["install", "--pin", "demo", "--no-build", "--python", str(target), "--json"]
    first = sagefix.start(*words, env=slow)
    while not started.exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.01)
    second = sagefix(*words[:-1])
    out, err = first.communicate(timeout=30)
    assert first.returncode == 0, err
    assert '"action":"installed"' in out
    # What the first had kept of the state before was not taken for that of a dead one.
    assert second.result["action"] == "already installed"
    assert "waiting" in second.err
    assert "interrupted" not in second.err
    assert ask(target, RIGHT).endswith("right\n0")


def test_saving_is_killed_at_any_moment(
    sagefix: Sagefix, make_target: MakeTarget, at_hand: Path, tmp_path: Path, own_environment: Path
) -> None:
    target, house = make_target(build=False), tmp_path / "house"
    words = ["save-wheel", "--pin", "demo", "--python", str(target), "--wheelhouse", str(house)]
    assert sagefix("install", "--pin", "demo", "--python", target, "--no-build", "--verify", "none").code == 0
    for tenths in range(2, 8):
        process = sagefix.start(*words, "--replace")
        time.sleep(tenths / 14)
        process.kill()
        process.communicate()
        for wheel in house.glob("*/*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                assert archive.testzip() is None
    assert sagefix(*words, "--replace").code == 0
    assert sagefix("wheelhouse", "check", "--wheelhouse", house).code == 0
    assert len(sagefix("wheelhouse", "list", "--wheelhouse", house).result) == 1
