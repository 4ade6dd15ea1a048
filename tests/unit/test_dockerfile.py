"""The Dockerfile as a text: what it says, what it refuses, and that the linter of Dockerfiles finds nothing in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from support import LABEL, make_wheel

from sagefix.cli.app import main
from sagefix.errors import KnownBadError, NoWheelError, PinError, UsageError, WheelError
from sagefix.wheels.archive import read_wheel
from sagefix.workflows.dockerfile import ImageRequest, is_ours, make_dockerfile, write_dockerfile

SAGE = ImageRequest(torch="2.11", archs=("9.0",), newest="2026-11-20")
DEMO = ImageRequest(pin="demo", python="3.11", newest="2026-11-20")


def _with(request: ImageRequest, **changes: object) -> ImageRequest:
    from msgspec.structs import replace

    return replace(request, **changes)


def _stage(text: str, name: str) -> str:
    """The lines from the FROM of a stage to the next one."""
    after = text.partition(f" AS {name}\n")[2]
    return after.partition("\nFROM ")[0]


def test_the_build_stage_makes_its_own_environment_and_needs_no_gpu() -> None:
    build = _stage(make_dockerfile(SAGE).text, "build")
    assert '--python 3.12 --torch 2.11 --cuda pypi --arch "9.0"' in " ".join(build.split())
    assert "--mount=type=cache,target=/var/cache/sagefix" in build
    assert "g++" in build


def test_the_runtime_stage_keeps_what_triton_needs_and_says_why() -> None:
    made = make_dockerfile(SAGE)
    runtime = _stage(made.text, "runtime")
    assert "--no-install-recommends gcc libc6-dev" in runtime
    assert "Triton compiles the launcher of each kernel in C" in runtime
    assert "Triton" in made.keeps_compiler
    for absent in ("g++", "nvcc", "--cuda", "COPY --from=build /opt/sagefix"):
        assert absent not in runtime


def test_without_triton_no_compiler_is_left() -> None:
    made = make_dockerfile(DEMO)
    assert made.keeps_compiler == ""
    assert "gcc" not in _stage(made.text, "runtime")
    assert "apt-get" not in _stage(made.text, "runtime")
    assert "gcc" in _stage(made.text, "build")


def test_the_container_is_not_root_and_begins_with_the_check() -> None:
    text = make_dockerfile(SAGE).text
    assert text.index("\nUSER 10001\n") < text.index('\nENTRYPOINT ["/usr/local/bin/first-start"]')
    assert text.rindex("RUN ") < text.index("\nUSER 10001\n")


def test_several_archs_are_one_wheel() -> None:
    made = make_dockerfile(_with(SAGE, archs=("9.0", "8.0")))
    assert made.archs == ("8.0", "9.0")
    assert made.text.count('--arch "8.0;9.0"') == 2


def test_a_base_of_debian_gets_python_and_its_headers_from_there() -> None:
    made = make_dockerfile(_with(SAGE, python="3.11", base="debian:bookworm-slim"))
    assert "python3.11 python3.11-venv" in _stage(made.text, "tools")
    assert "libpython3.11-dev" in _stage(made.text, "build")
    assert "ca-certificates gcc libc6-dev libpython3.11-dev python3.11" in _stage(made.text, "runtime")


def test_a_digest_is_kept() -> None:
    base = f"python:3.12-slim-bookworm@sha256:{'0' * 64}"
    assert make_dockerfile(_with(SAGE, base=base)).text.count(f"FROM {base} AS ") == 2


def test_packages_are_those_of_one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ARG UV_EXCLUDE_NEWER=2026-11-20\n" in make_dockerfile(SAGE).text
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1759000000")
    assert make_dockerfile(_with(SAGE, newest="")).newest == "2025-09-27"


def test_uv_takes_the_day_that_stands_for_any(tmp_path: Path) -> None:
    newest = make_dockerfile(_with(SAGE, newest="none")).newest
    (tmp_path / "none.in").touch()
    words = ["uv", "pip", "compile", "--quiet", "--offline", "--exclude-newer", newest, tmp_path / "none.in"]
    assert subprocess.run(words, check=False).returncode == 0


def test_the_same_request_gives_the_same_text() -> None:
    assert make_dockerfile(SAGE).text == make_dockerfile(SAGE).text


@pytest.mark.skipif(
    shutil.which("hadolint", path=str(Path(sys.executable).parent)) is None, reason="no hadolint here"
)
@pytest.mark.parametrize(
    "request_",
    [
        SAGE,
        DEMO,
        _with(SAGE, archs=("8.0", "9.0"), torch="2.11.0", ref="d1a57a5"),
        _with(SAGE, python="3.11", base="debian:bookworm-slim"),
        _with(DEMO, base="debian:bookworm-slim"),
        _with(DEMO, python="3.12", base="registry.example:5000/mirror/ubuntu:24.04"),
    ],
)
def test_hadolint_finds_nothing(request_: ImageRequest, tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(make_dockerfile(request_).text)
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--no-color", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"torch": None}, UsageError, "--torch"),
        ({"torch": "two"}, UsageError, "not a version"),
        ({"torch": "2.9"}, NoWheelError, "CUDA 12"),
        ({"torch": "2.14"}, NoWheelError, "C++20"),
        ({"archs": ()}, UsageError, "--arch is missing"),
        ({"archs": ("nine",)}, UsageError, "nine"),
        ({"archs": ("7.5",)}, NoWheelError, "7.5"),
        ({"python": "3.9"}, UsageError, "too old"),
        ({"python": "three"}, UsageError, "--python"),
        ({"ref": "v2.2.0"}, KnownBadError, "v2.2.0|eb615cf"),
        ({"ref": "0123456789012345678901234567890123456789"}, PinError, "does not list"),
        ({"base": "python:3.11-slim-bookworm"}, UsageError, "another Python"),
        ({"base": "python:3.12-alpine"}, UsageError, "musl"),
        ({"base": "debian"}, UsageError, "every month"),
        ({"base": "debian:latest"}, UsageError, "every month"),
        ({"base": "debian:bookworm\nRUN id"}, UsageError, "not the name of an image"),
        ({"newest": "yesterday"}, UsageError, "not a day"),
        ({"pin": "none"}, PinError, "no pin"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error) as raised:
        make_dockerfile(_with(SAGE, **changes))
    assert any(word in f"{raised.value} {getattr(raised.value, 'hint', '')}" for word in said.split("|"))


@pytest.mark.parametrize(
    ("changes", "said"), [({"torch": "2.11"}, "no torch"), ({"archs": ("9.0",)}, "on the CPU")]
)
def test_a_pin_for_the_cpu_takes_neither_torch_nor_arch(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_dockerfile(_with(DEMO, **changes))


def test_manifests_of_ones_own_are_not_in_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEFIX_MANIFESTS", str(tmp_path))
    with pytest.raises(UsageError, match="SAGEFIX_MANIFESTS"):
        make_dockerfile(SAGE)


def test_it_is_written_with_all_that_a_build_needs(tmp_path: Path) -> None:
    made = write_dockerfile(DEMO, tmp_path / "image" / "Dockerfile")
    assert made.file == str(tmp_path / "image" / "Dockerfile")
    assert is_ours((tmp_path / "image" / "Dockerfile").read_text())
    wheel = read_wheel(tmp_path / "image" / made.context[0])
    assert "sagefix/manifests/docker/first-start.sh" in wheel.members
    assert "sagefix/guest/probe.py" in wheel.members
    # Again, over its own.
    assert write_dockerfile(DEMO, tmp_path / "image").file == made.file


def test_a_wheel_at_hand_stands_in_for_the_build(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "kept", version=f"2.2.0+{LABEL}", tag="cp312-cp312-linux_x86_64")
    (tmp_path / "kept" / f"{wheel.name}.proofs.json").write_text("{}")
    made = write_dockerfile(ImageRequest(wheel=wheel), tmp_path / "image" / "Dockerfile")
    assert (made.python, made.torch, made.archs) == ("3.12", "2.11", ("9.0",))
    assert sorted(path.name for path in (tmp_path / "image").iterdir()) == sorted(
        [*made.context, "Dockerfile"]
    )
    assert f"{wheel.name}.proofs.json" in made.context
    build = _stage(made.text, "build")
    assert f"COPY {wheel.name} {wheel.name}.proofs.json ./" in build
    assert "wheelhouse add" in build
    assert "sagefix build" not in build
    assert "g++" not in made.text


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"python": "3.11"}, UsageError),
        ({"torch": "2.12"}, UsageError),
        ({"archs": ("8.0",)}, UsageError),
        ({"pin": "demo"}, WheelError),
        ({"ref": "d1a57a5"}, WheelError),
        ({"wheel": Path("nowhere.whl")}, WheelError),
    ],
)
def test_a_wheel_for_something_else_is_refused(
    tmp_path: Path, changes: dict[str, object], error: type[Exception]
) -> None:
    wheel = make_wheel(tmp_path, version=f"2.2.0+{LABEL}", tag="cp312-cp312-linux_x86_64")
    with pytest.raises(error):
        make_dockerfile(_with(ImageRequest(wheel=wheel), **changes))


@pytest.mark.parametrize("end", ["", "# mine\n"])
def test_what_sagefix_did_not_write_or_was_changed_stays(tmp_path: Path, end: str) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(make_dockerfile(DEMO).text + end if end else "FROM scratch\n")
    before = file.read_bytes()
    with pytest.raises(UsageError, match="was changed" if end else "did not write"):
        write_dockerfile(DEMO, file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["Dockerfile"]
    write_dockerfile(DEMO, file, force=True)
    assert is_ours(file.read_text())


@pytest.mark.parametrize("json", [False, True])
def test_without_output_the_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], json: bool) -> None:
    words = ["dockerfile", "--pin", "demo", "--exclude-newer", "2026-11-20", *(["--json"] if json else [])]
    with pytest.raises(SystemExit) as ended:
        main(words)
    out = capsys.readouterr().out
    assert ended.value.code == 0
    text = make_dockerfile(_with(DEMO, python="")).text
    assert (msgspec.json.decode(out)["result"]["text"] if json else out) == text
