"""The command line as a person, a script and a shell meet it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sagefix import __version__
from tests.integration.conftest import Here, MakeTarget, Sagefix

COMMANDS = [
    "install",
    "build",
    "save-wheel",
    "verify",
    "doctor",
    "bench",
    "explain",
    "matrix",
    "prebuild",
    "bisect",
    "gather",
    "rebuild",
    "pins list",
    "pins show",
    "source fetch",
    "source bundle",
    "wheelhouse path",
    "wheelhouse list",
    "wheelhouse add",
    "wheelhouse prove",
    "wheelhouse remove",
    "wheelhouse check",
    "wheelhouse index",
    "wheelhouse prune",
    "wheelhouse show",
    "wheelhouse record",
    "toolchain show",
    "toolchain install",
    "toolchain remove",
    "environments list",
    "environments remove",
    "attention install",
    "attention status",
    "attention remove",
]
ENVELOPE = ["schema", "command", "ok", "result", "error"]
# None of these may be loaded before there is work for them: they are what makes a command line slow.
HEAVY = {
    "git",
    "httpx",
    "build",
    "elftools",
    "rich",
    "psutil",
    "installer",
    "msgspec",
    "packaging",
    "filelock",
}
HEAVY |= {"asyncio", "pynvml", "pypi_simple", "platformdirs", "email"}


def test_every_command_is_in_the_list_of_this_test(here: Here) -> None:
    told = here("--help").out.partition("Commands:")[2]
    words = re.findall(r"^  ([a-z-]+)  ", told, re.MULTILINE)
    assert words == list(dict.fromkeys(command.split()[0] for command in COMMANDS))
    for group in ("pins", "source", "wheelhouse", "toolchain", "environments", "attention"):
        told = here(group, "--help").out.partition("Commands:")[2]
        assert [f"{group} {word}" for word in re.findall(r"^  ([a-z-]+)  ", told, re.MULTILINE)] == [
            command for command in COMMANDS if command.startswith(group)
        ]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(here: Here, command: str) -> None:
    said = here(*command.split(), "--help")
    assert (said.code, said.err) == (0, "")
    assert re.search(rf"^  Example: .*sagefix {command}", said.out, re.MULTILINE)
    for option in ("--json", "--quiet", "--verbose", "--help"):
        assert option in said.out
    assert here(*command.split(), "-h").out == said.out


def test_no_command_at_all_shows_what_there_is(here: Here) -> None:
    for words in ([], ["pins"], ["wheelhouse"]):
        said = here(*words)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith("Usage: sagefix")
        assert "error:" not in said.err


def test_version(sagefix: Sagefix) -> None:
    said = sagefix("--version", json_=False)
    assert (said.code, said.out, said.err) == (0, f"sagefix {__version__}\n", "")


def test_help_loads_nothing_heavy(sagefix: Sagefix) -> None:
    for words in (["--help"], ["install", "--help"], ["--version"]):
        program = sagefix.command(*words)
        done = subprocess.run(
            [program[0], "-X", "importtime", *program[1:]],
            capture_output=True,
            text=True,
            cwd=sagefix.folder,
            check=True,
        )
        loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
        assert "typer" in loaded
        assert loaded.isdisjoint(HEAVY)


def test_completion(sagefix: Sagefix) -> None:
    # The shell is the one that runs the command; where its name cannot be found out, it has to be named.
    program = [sys.executable, "-m", "sagefix"]
    if (shell := shutil.which("bash")) is not None:
        script = " ".join(f"'{word}'" for word in [*program, "--show-completion"])
        done = subprocess.run(
            [shell, "-c", f"{script}; :"], capture_output=True, text=True, cwd=sagefix.folder, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "_SAGEFIX_COMPLETE=complete_bash" in done.stdout
    for words, position, expected in (
        ("sagefix save", 1, "save-wheel"),
        ("sagefix wheelhouse ch", 2, "check"),
        ("sagefix install --allow", 2, "--allow-known-bad"),
        ("sagefix install --verify st", 3, "static"),
    ):
        env = {"_SAGEFIX_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
        said = sagefix(json_=False, env=env)
        assert (said.code, said.out.split(), said.err) == (0, [expected], "")


SUCCESSES = [
    "pins list",
    "pins show demo",
    "wheelhouse path",
    "wheelhouse list",
    "source fetch --pin demo",
]


@pytest.mark.parametrize("words", SUCCESSES)
def test_success_as_json_as_text_and_quietly(sagefix: Sagefix, words: str) -> None:
    said = sagefix(*words.split())
    assert said.out.count("\n") == 1
    assert list(said.answer) == ENVELOPE
    assert (said.answer["schema"], said.answer["ok"], said.answer["error"]) == (1, True, None)
    assert words.startswith(said.answer["command"])
    assert said.answer["result"] is not None
    plain = sagefix(*words.split(), json_=False)
    assert plain.code == 0
    assert plain.out.strip()
    assert "\x1b" not in plain.out + plain.err
    quiet = sagefix(*words.split(), "--quiet", json_=False)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


WRONG_WORDS = [
    ("--nope", "", "No such option", "`sagefix --help`"),
    ("bogus", "", "No such command 'bogus'", "`sagefix --help`"),
    ("install --nope", "install", "No such option", "`sagefix install --help`"),
    ("install --python", "install", "requires an argument", "`sagefix install --help`"),
    ("install --verify everything", "install", "'everything'", "`sagefix install --help`"),
    ("install what", "install", "what", "`sagefix install --help`"),
    ("pins bogus", "pins", "No such command 'bogus'", "`sagefix pins --help`"),
    ("wheelhouse add", "wheelhouse add", "Missing argument", "`sagefix wheelhouse add --help`"),
    ("source bundle", "source bundle", "Missing argument", "`sagefix source bundle --help`"),
    ("wheelhouse prune --keep 0", "wheelhouse prune", "--keep", "`sagefix wheelhouse prune --help`"),
    ("wheelhouse prune --keep some", "wheelhouse prune", "--keep", "`sagefix wheelhouse prune --help`"),
]


@pytest.mark.parametrize(
    ("words", "command", "message", "hint"), WRONG_WORDS, ids=[row[0] for row in WRONG_WORDS]
)
def test_what_cannot_be_understood(here: Here, words: str, command: str, message: str, hint: str) -> None:
    plain = here(*words.split())
    assert (plain.code, plain.out) == (2, "")
    assert plain.err.startswith("error: ")
    assert message in plain.err
    assert hint in plain.err
    if not words.endswith("--python"):  # or --json would be the name of a Python
        said = here(*words.split(), json_=True)
        assert (said.code, said.err, list(said.answer)) == (2, "", ENVELOPE)
        assert (said.answer["command"], said.answer["ok"]) == (command, False)
        error = said.answer["error"]
        assert (error["name"], error["exit_code"]) == ("usage", 2)
        assert plain.err == f"error: {error['message']}\nhint: {error['hint']}\n"


def test_errors_as_json_are_the_same_as_in_words(sagefix: Sagefix) -> None:
    said = sagefix("pins", "show", "nope")
    plain = sagefix("pins", "show", "nope", json_=False)
    error = said.answer["error"]
    assert list(error) == ["name", "exit_code", "message", "hint", "details"]
    assert said.code == plain.code == error["exit_code"] == 3
    assert plain.err == f"error: {error['message']}\nhint: {error['hint']}\n"
    assert (plain.out, said.err) == ("", "")
    assert error["details"]["known"] == ["demo", "sageattention"]


def test_progress_goes_to_stderr_and_quiet_is_quiet(sagefix: Sagefix, make_target: MakeTarget) -> None:
    target = make_target()
    words = ["build", "--pin", "demo", "--python", str(target)]
    said = sagefix(*words)
    assert said.result["compiled"] is True
    assert "Building demoattention" in said.err
    assert "\x1b" not in said.err
    assert "\r" not in said.err
    quiet = sagefix(*words, "--rebuild", "--quiet", json_=False)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    both = sagefix(*words, "--quiet")
    assert (both.answer["ok"], both.err) == (True, "")
    verbose = sagefix(*words, "--rebuild", "--verbose")
    assert verbose.answer["ok"] is True
    commands = [line for line in verbose.err.splitlines() if "$ " in line]
    assert any("probe.py" in line for line in commands)
    assert any("shim.py" in line for line in commands)


def _on_terminal(command: list[str], env: dict[str, str], cwd: Path) -> tuple[int, str]:
    """Run a command with a terminal for all its streams; return its status and what the terminal got."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=env, start_new_session=True
    )
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                block = os.read(ours, 4096)
            except OSError:  # Linux says so when nobody holds the other end any more
                break
            if not block:
                break
            seen += block
        elif child.poll() is not None:
            break
    os.close(ours)
    return child.wait(timeout=10), seen.decode(errors="replace")


def test_on_a_terminal_there_are_bars_and_colours(
    sagefix: Sagefix, make_target: MakeTarget, tmp_path: Path
) -> None:
    slow = tmp_path / "slow-cc"
    slow.write_text('#!/bin/sh\ncase "$*" in *attention.c*) sleep 1;; esac\nexec cc "$@"\n')
    slow.chmod(0o755)
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40", "CC": str(slow)}
    env.pop("NO_COLOR", None)
    target = str(make_target())
    code, seen = _on_terminal(
        sagefix.command("install", "--pin", "demo", "--python", target), env, sagefix.folder
    )
    assert code == 0, seen
    assert "Building demoattention" in seen
    assert "━" in seen  # the bar
    assert "\x1b[?25l" in seen  # the cursor hides while bars are drawn
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")  # and comes back
    assert "\x1b[32m" in seen  # the green of a check that passed
    code, seen = _on_terminal(sagefix.command("pins", "show", "nope"), env, sagefix.folder)
    assert code == 3
    assert "\x1b[" in seen
    code, seen = _on_terminal(
        sagefix.command("verify", "--pin", "demo", "--python", target, "--quiet"), env, sagefix.folder
    )
    assert (code, seen) == (0, "")


def _shell(sagefix: Sagefix, line: str, **env: str) -> subprocess.CompletedProcess[str]:
    program = " ".join(f"'{word}'" for word in sagefix.command())
    return subprocess.run(
        ["sh", "-c", line.replace("SAGEFIX", program)],
        capture_output=True,
        text=True,
        cwd=sagefix.folder,
        env={**os.environ, **env},
        check=False,
    )


@pytest.mark.parametrize("words", ["pins list", "pins show sageattention --json", "--help"])
def test_a_reader_that_leaves_is_no_error_to_talk_about(sagefix: Sagefix, words: str) -> None:
    done = _shell(sagefix, f"SAGEFIX {words} | true")
    assert (done.returncode, done.stderr) == (0, "")
    done = _shell(sagefix, f"SAGEFIX {words} | head -c 1")
    assert (len(done.stdout), done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", ["pins list", "pins list --json", "wheelhouse path"])
def test_output_that_cannot_be_written_is_told(sagefix: Sagefix, words: str) -> None:
    done = _shell(sagefix, f"SAGEFIX {words} > /dev/full")
    assert done.returncode == 18
    assert done.stderr == (
        "error: The result could not be written to standard output: No space left on device.\n"
    )


def test_closed_streams_do_not_matter(sagefix: Sagefix) -> None:
    assert _shell(sagefix, "SAGEFIX pins list >&-").returncode == 0
    assert _shell(sagefix, "SAGEFIX pins list --json >&-").returncode == 0
    assert _shell(sagefix, "SAGEFIX pins list 2>&- <&-").stdout.count("sageattention") == 1
    assert _shell(sagefix, "SAGEFIX pins show nope 2>&-").returncode == 3


def test_a_terminal_without_unicode(sagefix: Sagefix) -> None:
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    said = sagefix("pins", "show", env=env, json_=False)
    assert said.code == 0, said.err
    assert "68de379" in said.out
    failed = sagefix("wheelhouse", "check", "--wheelhouse", "/ƒolder", env=env, json_=False)
    assert failed.code == 12
    assert "Traceback" not in failed.err


def test_a_path_that_is_no_unicode(sagefix: Sagefix) -> None:
    odd = os.fsdecode(b"/not\xffthere")
    said = sagefix("verify", "--pin", "demo", "--python", odd)
    assert said.code == 5
    assert "/not\\udcffthere" in said.answer["error"]["message"]
    assert "Traceback" not in sagefix("verify", "--pin", "demo", "--python", odd, json_=False).err


def test_a_working_folder_that_is_gone(sagefix: Sagefix, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = _shell(sagefix, f"cd '{gone}' && rmdir '{gone}' && SAGEFIX pins list --json")
    assert done.returncode == 2
    assert "working folder" in json.loads(done.stdout)["error"]["message"]


# Settings


def _path(sagefix: Sagefix, *words: str | Path, **env: str) -> str:
    said = sagefix("wheelhouse", "path", *words, env=env)
    return str(Path(said.result["path"]).name)


def test_flag_before_variable_before_file_before_default(
    sagefix: Sagefix, own_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAGEFIX_WHEELHOUSE")
    (sagefix.folder / "pyproject.toml").write_text('[tool.sagefix]\nwheelhouse = "from-pyproject"\n')
    assert _path(sagefix) == "from-pyproject"
    (sagefix.folder / "sagefix.toml").write_text('wheelhouse = "from-file"\n')
    assert _path(sagefix) == "from-file"
    assert _path(sagefix, SAGEFIX_WHEELHOUSE="from-variable") == "from-variable"
    assert _path(sagefix, "--wheelhouse", "from-flag", SAGEFIX_WHEELHOUSE="from-variable") == "from-flag"
    (sagefix.folder / "sagefix.toml").unlink()
    (sagefix.folder / "pyproject.toml").write_text("[project]\nname = 'somebody'\n")
    assert _path(sagefix) == "wheels"


def test_a_table_is_for_one_command(sagefix: Sagefix, make_target: MakeTarget) -> None:
    target = make_target(build=False)
    (sagefix.folder / "sagefix.toml").write_text(
        f'pin = "nope"\npython = "{target}"\n[install]\npin = "demo"\nno-build = true\n[verify]\nlevel = "static"\n'
        "[source]\npin = 'demo'\n"
    )
    assert sagefix("verify").answer["error"]["details"]["pin"] == "nope"
    refused = sagefix("install")
    assert (refused.code, refused.answer["error"]["name"], refused.err) == (14, "no-wheel", "")
    assert sagefix("source", "fetch").code == 0
    missing = sagefix("verify", "--pin", "demo")
    assert (missing.code, missing.answer["result"]["level"]) == (16, "static")
    (sagefix.folder / "sagefix.toml").write_text('[install]\nindex = "ftp://example.org/"\npin = "demo"\n')
    # One index may be written without brackets, and is read as one.
    said = sagefix("install", "--python", target, "--dry-run")
    assert said.code == 2 or said.answer["error"]["name"] == "index", said.answer
    assert "ftp://example.org/" in said.answer["error"]["message"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("wheelhouse = ", "is not valid TOML"),
        ("verify = 'everything'", "verify in "),
        ("[install]\nno-build = 'perhaps'", "no_build in "),
        ("name = '\udcff'", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_clear_error(sagefix: Sagefix, text: str, says: str) -> None:
    file = sagefix.folder / "sagefix.toml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    said = sagefix("install", "--pin", "demo")
    assert (said.code, said.answer["error"]["name"], said.err) == (2, "usage", "")
    assert says in said.answer["error"]["message"]
    assert str(file) in said.answer["error"]["message"]
    assert said.answer["error"]["hint"]
    # Help is what one looks for then.
    assert sagefix("install", "--help", json_=False).code == 0
    assert sagefix("--version", json_=False).code == 0


def test_a_key_that_nobody_knows_is_told_and_not_fatal(sagefix: Sagefix) -> None:
    (sagefix.folder / "sagefix.toml").write_text(
        "pyhton = '.venv'\njson = true\n[install]\nverifyy = 'static'\n[nonsense]\na = 1\n[wheelhouse]\nkeep = 2\n"
    )
    said = sagefix("wheelhouse", "path", json_=False)
    assert said.code == 0
    assert said.out == os.environ["SAGEFIX_WHEELHOUSE"] + "\n"
    told = re.findall(
        r"^warning: .*sagefix\.toml: no command has a setting '(.*)'; it is not used\.$", said.err, re.M
    )
    assert told == ["pyhton", "json", "install.verifyy", "nonsense"]
    assert len(said.err.splitlines()) == 4


def test_empty_values_are_not_taken_for_defaults(sagefix: Sagefix) -> None:
    for words, code in (
        (["verify", "--pin", "demo", "--python", ""], 5),
        (["wheelhouse", "path", "--wheelhouse", ""], 2),
        (["pins", "show", ""], 3),
        (["source", "fetch", "--pin", "demo", "--ref", ""], 3),
        (["source", "fetch", "--pin", "demo", "--source", ""], 9),
    ):
        said = sagefix(*words)
        assert (said.code, said.err) == (code, ""), words
    # An empty variable, however, is one that is not set.
    assert sagefix("wheelhouse", "path", env={"SAGEFIX_WHEELHOUSE": ""}).code == 0


def test_looking_makes_no_folder(sagefix: Sagefix, tmp_path: Path) -> None:
    house = tmp_path / "never"
    assert sagefix("wheelhouse", "list", "--wheelhouse", house).result == []
    assert sagefix("wheelhouse", "path", "--wheelhouse", house).code == 0
    assert sagefix("wheelhouse", "prune", "--wheelhouse", house).code == 12
    assert not house.exists()
