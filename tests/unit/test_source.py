"""The source room without git: origins, patterns, links, the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagefix.errors import PinError, SourceError
from sagefix.pins.model import Build, Pin, Source
from sagefix.source.bundles import read_header
from sagefix.source.environment import environment, leaking
from sagefix.source.export import _stays_inside
from sagefix.source.failures import reason
from sagefix.source.folders import list_files
from sagefix.source.origins import find_origin
from sagefix.source.trees import Patterns, is_full_commit


def make_pin(url: str = "https://example.org/pkg", embedded: str = "") -> Pin:
    return Pin(
        schema=1,
        name="pkg",
        project="pkg",
        package="pkg",
        version="1.0",
        summary="",
        device="cpu",
        license="Apache-2.0",
        source=Source(
            url=url,
            embedded=embedded,
            commit="0" * 40,
            tree="1" * 40,
            files=("/setup.py", "/pkg/", "/src/a.c"),
        ),
        build=Build(),
        recipe=(),
        ref=(),
    )


@pytest.mark.parametrize(
    ("text", "protocol", "shown"),
    [
        ("https://example.org/a/b", "https", "https://example.org/a/b"),
        ("https://me:secret@example.org:8443/a?token=x#y", "https", "https://example.org:8443/a"),
        ("ssh://git@example.org/a.git", "ssh", "ssh://git@example.org/a.git"),
        ("ssh://git:secret@example.org/a.git", "ssh", "ssh://git@example.org/a.git"),
        ("git@example.org:a/b.git", "ssh", "git@example.org:a/b.git"),
        ("http://127.0.0.1:8000/a", "http", "http://127.0.0.1:8000/a"),
        ("http://[::1]:8000/a", "http", "http://[::1]:8000/a"),
    ],
)
def test_urls_are_understood_and_shown_without_credentials(text: str, protocol: str, shown: str) -> None:
    origin = find_origin(make_pin(), text)
    assert (origin.kind, origin.protocol, origin.shown, origin.url) == ("url", protocol, shown, text)


def test_no_origin_means_the_pins_own() -> None:
    assert find_origin(make_pin(), None).url == "https://example.org/pkg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a place"),
        ("--upload-pack=touch x", "is not a place"),
        ("https://example.org/\nx", "is not a place"),
        ("ext::sh -c id", "ext:: is refused"),
        ("fd::3", "fd:: is refused"),
        ("http://example.org/a", "http:// is open to everyone"),
        ("git://example.org/a", "git:// is not a protocol"),
        ("ftp://example.org/a", "ftp:// is not a protocol"),
        ("ssh://-oProxyCommand=id/a", "names no host"),
        ("https:///a", "names no host"),
        ("https://[::1/a", "cannot be read"),
        ("file://elsewhere/a", "does not name a path on this machine"),
        ("file:///nowhere/at/all", "There is no /nowhere/at/all"),
        ("/nowhere/at/all", "There is no /nowhere/at/all"),
        ("-oProxyCommand=id:a", "is not a place"),
        ("~nobody-of-this-name/a", "There is no"),
        ("/" + "x" * 5000, "cannot be read"),
    ],
)
def test_other_origins_are_refused(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        find_origin(make_pin(), text)
    assert caught.value.hint


def test_paths_are_told_apart(tmp_path: Path) -> None:
    bundle, bare, work, plain, other = (tmp_path / name for name in ("b", "bare", "work", "plain", "x.zip"))
    bundle.write_bytes(b"# v2 git bundle\n\n")
    (bare / "objects").mkdir(parents=True)
    (bare / "HEAD").write_text("ref: refs/heads/main\n")
    (work / ".git").mkdir(parents=True)
    plain.mkdir()
    other.write_bytes(b"PK")
    kinds = [find_origin(make_pin(), str(path)).kind for path in (bundle, bare, work, plain)]
    assert kinds == ["bundle", "repository", "repository", "folder"]
    assert find_origin(make_pin(), f"file://{bundle}").kind == "bundle"
    assert find_origin(make_pin(), f"file://{bare}").kind == "url"
    with pytest.raises(SourceError, match="is not a git bundle"):
        find_origin(make_pin(), str(other))
    with pytest.raises(SourceError, match=r"embedded source .* is missing"):
        find_origin(make_pin("", "no-such-folder"), None)


def test_patterns_select_whole_folders_and_single_files() -> None:
    patterns = Patterns(("/setup.py", "/pkg/", "/src/a.c"))
    chosen = ["setup.py", "pkg/deep/x.py", "src/a.c"]
    others = ["setup.py.orig", "pkg", "pkg2/x.py", "src/b.c", "deep/setup.py", "a.c"]
    assert [path for path in chosen + others if patterns.selects_file(tuple(path.split("/")))] == chosen
    assert patterns.lies_below(("src",)) and not patterns.lies_below(("pkg",))


@pytest.mark.parametrize("pattern", ["setup.py", "/*.py", "!/a", "/", "/a//b", "/../a", "/[ab]", "/a/./b"])
def test_other_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(PinError, match="is not a pattern"):
        Patterns((pattern,))


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        ("a/link", "../b", True),
        ("link", "b/c", True),
        ("link", "../b", False),
        ("a/b/link", "../../c", True),
        ("a/link", "../../c", False),
        ("a/link", "b/../../c", False),
        ("link", "/etc/passwd", False),
        ("link", "", False),
    ],
)
def test_links_must_stay_inside(path: str, target: str, inside: bool) -> None:
    assert _stays_inside(path, target) is inside


def test_nothing_of_gits_environment_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_TRACE", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_KEY_7"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("GIT_SSL_CAINFO", "/ca.pem")
    ours = environment("https", {"a.b": "c"})
    assert ours["GIT_CONFIG_COUNT"] == "1"
    assert ours["GIT_ALLOW_PROTOCOL"] == "https"
    assert Path(ours["GIT_CONFIG_GLOBAL"]).is_file()
    names = leaking(ours)
    assert {"GIT_DIR", "GIT_INDEX_FILE", "GIT_TRACE", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_KEY_7"} <= set(
        names
    )
    assert not {"GIT_SSL_CAINFO", "GIT_CONFIG_KEY_0", "GIT_TERMINAL_PROMPT"} & set(names)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("fatal: unable to access 'https://h/': Could not resolve host: h\n", "Could not resolve host: h"),
        ("ssh: Could not resolve hostname h\nfatal: Could not read from remote repository.\n\nPlease make",
         "Could not resolve hostname h"),
        ("remote: Counting\nerror: Server does not allow x\n", "Server does not allow x"),
        ("", "git gave no reason"),
    ],
)  # fmt: skip
def test_the_line_that_says_why(said: str, why: str) -> None:
    assert reason(said) == why


@pytest.mark.parametrize("text", ["68DE379", "68de379", "z" * 40, "0" * 41, ""])
def test_full_commits_have_forty_digits(text: str) -> None:
    assert not is_full_commit(text)
    assert is_full_commit("0123456789abcdef" * 2 + "01234567")


@pytest.mark.parametrize("content", [b"", b"# v2 git bundle\n", b"# v4 git bundle\n\nPACK", b"\0" * 99])
def test_a_header_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b").write_bytes(content)
    with pytest.raises(SourceError, match="is not a git bundle"):
        read_header(tmp_path / "b")


def test_a_header_with_an_unknown_capability(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"# v3 git bundle\n@object-format=sha256\n\nPACK")
    with pytest.raises(SourceError, match="object-format=sha256"):
        read_header(tmp_path / "b")


def test_a_header_is_read(tmp_path: Path) -> None:
    head = f"# v3 git bundle\n@filter=blob:none\n-{'a' * 40} why\n{'b' * 40} refs/heads/main\n\n".encode()
    (tmp_path / "b").write_bytes(head + b"PACK")
    header = read_header(tmp_path / "b")
    assert header.heads == {"refs/heads/main": "b" * 40}
    assert header.prerequisites == ("a" * 40,)
    assert header.pack_at == len(head)
    assert header.contents() == "bbbbbbbbbbbb (refs/heads/main)"


def test_what_python_leaves_behind_is_not_source(tmp_path: Path) -> None:
    for name in ("a.py", "pkg/__init__.py", "pkg/__pycache__/x.cpython-312.pyc", "pkg/y.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "link").symlink_to("pkg")
    assert list_files(tmp_path) == ["a.py", "link", "pkg/__init__.py"]
