"""The source room with real git: repositories, file:// URLs, bundles, folders, the embedded demo package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from sagefix.errors import DiskError, SourceError
from sagefix.pins.load import load_pin
from sagefix.pins.model import Build, Pin, Source
from sagefix.progress import SilentReporter, Task, reporting
from sagefix.source.fetch import Fetched, commit_time, export, fetch, resolve, write_bundle

FILES = {
    "setup.py": "print('setup')\n",
    "pkg/__init__.py": "value = 1\n",
    "pkg/deep/kernel.cu": "__global__ void f() {}\n",
    "pkg2/other.py": "",
    "assets/big.bin": "x",
    "LICENSE": "free\r\n",
}
SELECTED = ["LICENSE", "pkg/__init__.py", "pkg/deep/kernel.cu", "pkg/link", "pkg/run.sh", "setup.py"]
TIME = 1700000000


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody, with no configuration."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@localhost",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@localhost",
        "GIT_AUTHOR_DATE": f"{TIME} +0100",
        "GIT_COMMITTER_DATE": f"{TIME} +0100",
    }
    command = ["git", "-c", "core.autocrlf=false", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Upstream:
    """A work tree with three commits: ``first``, ``pinned`` (tag v1, annotated) and ``tip`` (main)."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        folder.mkdir()
        git(folder, "init", "--quiet", "--initial-branch=main")
        git(folder, "config", "uploadpack.allowFilter", "true")
        for name, text in FILES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text.encode())
        # Does not compress, so that its bytes are seen in what is received.
        (folder / "assets" / "big.bin").write_bytes(os.urandom(200_000))
        self.first = self.commit("first")
        (folder / "pkg" / "run.sh").write_text("#!/bin/sh\n")
        (folder / "pkg" / "run.sh").chmod(0o755)
        (folder / "pkg" / "link").symlink_to("deep/kernel.cu")
        self.pinned = self.commit("pinned")
        git(folder, "tag", "--annotate", "-m", "one", "v1")
        (folder / "pkg" / "__init__.py").write_text("value = 2\n")
        self.tip = self.commit("tip")
        self.tree = git(folder, "rev-parse", f"{self.pinned}^{{tree}}")

    def commit(self, message: str) -> str:
        git(self.path, "add", "--all")
        git(self.path, "commit", "--quiet", "-m", message)
        return git(self.path, "rev-parse", "HEAD")

    @property
    def url(self) -> str:
        return f"file://{self.path}"

    def pin(self, url: str | None = None) -> Pin:
        files = ("/setup.py", "/LICENSE", "/pyproject.toml", "/pkg/")
        return Pin(
            schema=1,
            name="pkg",
            project="pkg",
            package="pkg",
            version="1.0",
            summary="",
            device="cpu",
            license="Apache-2.0",
            source=Source(url=url or self.url, commit=self.pinned, tree=self.tree, files=files),
            build=Build(),
            recipe=(),
            ref=(),
        )


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "upstream")


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.tasks: list[str] = []
        self.done: list[float] = []

    def start(self, name: str, total: float | None, unit: str) -> Task:
        del total, unit
        self.tasks.append(name)
        return self

    def update(self, done: float | None = None, total: float | None = None, text: str | None = None) -> None:
        del text
        if done is not None and done == total:
            self.done.append(done)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def files_of(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    )


def forget(cache: Path) -> None:
    shutil.rmtree(cache / "source")


@pytest.mark.parametrize("how", ["url", "path", "bare"])
def test_only_the_selected_files_are_fetched_and_checked(
    upstream: Upstream, tmp_path: Path, how: str
) -> None:
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(upstream.path), str(bare))
    origin = {"url": upstream.url, "path": str(upstream.path), "bare": str(bare)}[how]
    heard = Listener()
    with reporting(heard):
        fetched = fetch(upstream.pin(), upstream.pinned, tree=upstream.tree, origin=origin)
    setup = git(upstream.path, "rev-parse", f"{upstream.pinned}:setup.py")
    assert (fetched.commit, fetched.tree, fetched.setup_py) == (upstream.pinned, upstream.tree, setup)
    assert fetched.origin == origin and not fetched.from_cache
    assert 0 < fetched.received < 5000
    assert not heard.warnings and (not heard.tasks or heard.done)

    out = tmp_path / "out"
    assert export(fetched, upstream.pin(), out) == len(SELECTED)
    assert files_of(out) == SELECTED
    for name in SELECTED:
        assert (out / name).lstat().st_mtime == TIME == commit_time(fetched)
        # The work tree has moved on: value is 2 there.
        if name != "pkg/__init__.py":
            assert (out / name).read_bytes() == (upstream.path / name).read_bytes()
    assert (out / "pkg" / "__init__.py").read_text() == "value = 1\n"
    assert os.access(out / "pkg" / "run.sh", os.X_OK) and not (out / "setup.py").stat().st_mode & 0o111
    assert (out / "pkg" / "link").readlink() == Path("deep/kernel.cu")
    assert (out / "pkg").stat().st_mtime == TIME


def test_a_second_time_nothing_moves_and_offline_says_so(upstream: Upstream) -> None:
    pin = upstream.pin()
    fetch(pin, upstream.pinned)
    upstream.path.rename(upstream.path.with_name("gone"))
    again = fetch(pin, upstream.pinned, tree=upstream.tree, origin="https://localhost:1/never/asked")
    assert again.from_cache and again.received == 0
    heard = Listener()
    with reporting(heard):
        assert fetch(upstream.pin("https://localhost:1/x"), upstream.pinned, offline=True).from_cache
    assert heard.notes == [f"Offline: pkg {upstream.pinned[:7]} comes from the cache."]
    with pytest.raises(SourceError, match="is not in the cache") as caught:
        fetch(upstream.pin("https://localhost:1/x"), upstream.tip, offline=True)
    assert "sagefix source bundle" in caught.value.hint


def test_the_tree_is_compared(upstream: Upstream) -> None:
    for origin in (upstream.url, str(upstream.path), upstream.url):
        with pytest.raises(SourceError, match=f"has the tree .* and the pin says {'1' * 40}") as caught:
            fetch(upstream.pin(), upstream.pinned, tree="1" * 40, origin=origin)
        assert caught.value.details["tree"] == upstream.tree


def test_what_is_not_a_commit_there(upstream: Upstream) -> None:
    pin, blob = upstream.pin(), git(upstream.path, "rev-parse", "HEAD:setup.py")
    with pytest.raises(SourceError, match=f"has no commit {'1' * 40}"):
        fetch(pin, "1" * 40)
    with pytest.raises(SourceError, match=f"does not hold commit {'1' * 40}"):
        fetch(pin, "1" * 40, origin=str(upstream.path))
    with pytest.raises(SourceError, match="is a tag, not a commit"):
        fetch(pin, git(upstream.path, "rev-parse", "v1"))
    with pytest.raises(SourceError, match="is a blob, not a commit"):
        fetch(pin, blob, origin=str(upstream.path))
    with pytest.raises(SourceError, match="is not a full commit"):
        fetch(pin, upstream.pinned[:7])


def test_a_server_without_filters_serves_whole_commits(upstream: Upstream) -> None:
    git(upstream.path, "config", "uploadpack.allowFilter", "false")
    fetched = fetch(upstream.pin(), upstream.pinned)
    assert fetched.received > 200_000
    # The cache keeps what is selected, nothing else.
    packs = (Path(fetched.repository) / "objects" / "pack").glob("*.pack")
    assert sum(pack.stat().st_size for pack in packs) < 5000


def test_refs_are_resolved(upstream: Upstream) -> None:
    pin = upstream.pin()
    git(upstream.path, "branch", "feature/main", upstream.first)
    for origin in (upstream.url, str(upstream.path)):
        assert resolve(pin, "v1", origin) == upstream.pinned
        assert resolve(pin, "main", origin) == upstream.tip
        assert resolve(pin, "HEAD", origin) == upstream.tip
        assert resolve(pin, "refs/tags/v1", origin) == upstream.pinned
        assert resolve(pin, "feature/main", origin) == upstream.first
        assert resolve(pin, upstream.pinned.upper(), origin) == upstream.pinned
        with pytest.raises(SourceError, match="has no ref 'nosuch'"):
            resolve(pin, "nosuch", origin)
    assert resolve(pin, upstream.pinned[:8], str(upstream.path)) == upstream.pinned
    with pytest.raises(SourceError, match="serves full 40-digit commits only"):
        resolve(pin, upstream.pinned[:8])
    fetch(pin, upstream.pinned)
    assert (
        resolve(upstream.pin("https://localhost:1/x"), upstream.pinned[:8], offline=True) == upstream.pinned
    )
    with pytest.raises(SourceError, match="Offline, the ref 'main' cannot be looked up"):
        resolve(upstream.pin("https://localhost:1/x"), "main", offline=True)
    for bad in ("-x", "", "a..b", "a b", "HEAD~1", "a:b", "a^{tree}", "*", "x.lock"):
        with pytest.raises(SourceError, match="is not a ref"):
            resolve(pin, bad)


def test_a_clone_knows_the_branches_of_its_origin(upstream: Upstream, tmp_path: Path) -> None:
    git(upstream.path, "branch", "side", upstream.first)
    git(tmp_path, "clone", "--quiet", str(upstream.path), "clone")
    assert resolve(upstream.pin(), "side", str(tmp_path / "clone")) == upstream.first


def test_a_partial_clone_is_enough_if_it_has_the_files(upstream: Upstream, tmp_path: Path) -> None:
    clone = tmp_path / "partial.git"
    git(tmp_path, "clone", "--quiet", "--bare", "--filter=blob:none", upstream.url, str(clone))
    # Git would fetch what is missing behind our back, from wherever that repository's configuration says.
    with pytest.raises(SourceError, match="but not all of its files"):
        fetch(upstream.pin(), upstream.pinned, origin=str(clone))
    with pytest.raises(SourceError, match=f"does not hold commit {'1' * 40}"):
        fetch(upstream.pin(), "1" * 40, origin=str(clone))
    for name in SELECTED:
        git(clone, "cat-file", "-e", f"{upstream.pinned}:{name}")
        git(clone, "cat-file", "blob", f"{upstream.pinned}:{name}")
    upstream.path.rename(upstream.path.with_name("gone"))
    assert fetch(upstream.pin(), upstream.pinned, origin=str(clone)).received > 0


def test_a_linked_work_tree_leads_to_its_repository(upstream: Upstream, tmp_path: Path) -> None:
    git(upstream.path, "worktree", "add", "--quiet", str(tmp_path / "linked"), upstream.first)
    assert fetch(upstream.pin(), upstream.pinned, origin=str(tmp_path / "linked")).tree == upstream.tree


def test_a_folder_that_only_looks_like_a_repository(upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "fake" / ".git").mkdir(parents=True)
    with pytest.raises(SourceError, match="git cannot read the repository"):
        fetch(upstream.pin(), upstream.pinned, origin=str(tmp_path / "fake"))


@pytest.mark.parametrize("damage", ["truncate", "flip", "config", "empty"])
def test_a_damaged_cache_is_made_anew(upstream: Upstream, damage: str, tmp_path: Path) -> None:
    pin = upstream.pin()
    fetched = fetch(pin, upstream.pinned)
    repository = Path(fetched.repository)
    pack = next((repository / "objects" / "pack").glob("*.pack"))
    pack.chmod(0o644)
    content = pack.read_bytes()
    if damage == "truncate":
        pack.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        pack.write_bytes(content[:60] + bytes([content[60] ^ 0xFF]) + content[61:])
    elif damage == "config":
        (repository / "HEAD").unlink()
    else:
        shutil.rmtree(repository)
        repository.mkdir()
    with pytest.raises(SourceError, match="damaged"):
        export(fetched, pin, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    again = fetch(pin, upstream.pinned, tree=upstream.tree)
    assert not again.from_cache
    assert export(again, pin, tmp_path / "out") == len(SELECTED)


def test_what_a_killed_process_left_behind_does_not_matter(upstream: Upstream, own_environment: Path) -> None:
    pin = upstream.pin()
    fetch(pin, upstream.first)
    source = own_environment / "source"
    scratch = source / "pkg.scratch" / "dead" / "repository.git"
    scratch.mkdir(parents=True)
    for leftover in (scratch / "shallow.lock", source / "pkg.git" / "config.lock"):
        leftover.write_text("")
    (source / "pkg.git" / "objects" / "pack" / "tmp_pack_abc").write_text("half")
    assert fetch(pin, upstream.pinned).tree == upstream.tree
    assert not [*source.rglob("*.lock.lock"), *source.rglob("tmp_pack*"), *source.rglob("config.lock")]
    assert not scratch.exists()


def test_a_killed_fetch_can_be_repeated(upstream: Upstream, own_environment: Path) -> None:
    code = (
        "import os, signal, msgspec, sys\n"
        "from sagefix.pins.model import Pin\n"
        "from sagefix.source import cache, fetch\n"
        "pin = msgspec.json.decode(sys.argv[1], type=Pin)\n"
        "cache.Cache.take = lambda *rest: os.kill(os.getpid(), signal.SIGKILL)\n"
        "fetch.fetch(pin, pin.source.commit)\n"
    )
    command = [sys.executable, "-c", code, msgspec.json.encode(upstream.pin()).decode()]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert killed.returncode == -9
    assert any((own_environment / "source" / "pkg.scratch").iterdir())
    assert fetch(upstream.pin(), upstream.pinned).received > 0
    assert not any((own_environment / "source" / "pkg.scratch").iterdir())


def test_two_at_once_share_one_cache(upstream: Upstream) -> None:
    found: list[Fetched] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(upstream.pin(), upstream.pinned)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.from_cache for one in found) == [False, True, True, True]


def test_gits_variables_around_us_do_not_matter(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "evil"
    config.write_text('[url "/nowhere/"]\n\tinsteadOf = file:///\n[core]\n\thooksPath = /nowhere\n')
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "url./nowhere/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "file:///")
    monkeypatch.setenv("GIT_TRACE", "1")
    assert fetch(upstream.pin(), upstream.pinned).tree == upstream.tree
    assert fetch(upstream.pin(), upstream.tip, origin=str(upstream.path)).received > 0


def test_replaced_objects_do_not_lie(upstream: Upstream) -> None:
    git(upstream.path, "replace", upstream.pinned, upstream.tip)
    assert fetch(upstream.pin(), upstream.pinned, origin=str(upstream.path)).tree == upstream.tree


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root to give a file away")
def test_a_repository_of_somebody_else_can_be_named(upstream: Upstream) -> None:
    for path in (upstream.path, *upstream.path.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    assert fetch(upstream.pin(), upstream.pinned).tree == upstream.tree
    assert fetch(upstream.pin(), upstream.tip, origin=str(upstream.path)).received > 0


def test_no_git(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="git was not found") as caught:
        fetch(upstream.pin(), upstream.pinned)
    assert "Install git" in caught.value.hint


def test_a_git_that_is_too_old(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\necho git version 2.25.1\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(SourceError, match=r"git 2\.25\.1 is too old"):
        fetch(upstream.pin(), upstream.pinned)


def test_export_refuses_what_is_not_right(upstream: Upstream, tmp_path: Path) -> None:
    pin = upstream.pin()
    fetched = fetch(pin, upstream.pinned)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "x").write_text("")
    with pytest.raises(SourceError, match="is not empty"):
        export(fetched, pin, tmp_path / "used")
    (tmp_path / "empty").mkdir()
    assert export(fetched, pin, tmp_path / "empty") == len(SELECTED)

    (upstream.path / "pkg" / "escape").symlink_to("../../outside")
    escaping = fetch(pin, upstream.commit("escape"))
    with pytest.raises(SourceError, match=r"pkg/escape -> \.\./\.\./outside leaves the source"):
        export(escaping, pin, tmp_path / "out")
    (upstream.path / "pkg" / "escape").unlink()
    (upstream.path / "setup.py").unlink()
    without = fetch(pin, upstream.commit("no setup.py"))
    assert without.setup_py == ""
    with pytest.raises(SourceError, match=r"has no setup\.py"):
        export(without, pin, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tree_made_by_hand_cannot_leave_the_folder(upstream: Upstream, tmp_path: Path) -> None:
    blob = bytes.fromhex(git(upstream.path, "rev-parse", "HEAD:setup.py"))
    for name in (b"..", b".git", b"a/b"):
        raw = tmp_path / "raw"
        raw.write_bytes(b"100644 " + name + b"\0" + blob + b"100644 setup.py\0" + blob)
        tree = git(upstream.path, "hash-object", "-t", "tree", "-w", "--literally", str(raw))
        commit = git(upstream.path, "commit-tree", "-m", "x", tree)
        with pytest.raises(SourceError, match=r"The tree .* is not one that git writes|no honest repository"):
            fetch(upstream.pin(), commit, origin=str(upstream.path))


def test_submodules_are_told_of(upstream: Upstream) -> None:
    git(upstream.path, "update-index", "--add", "--cacheinfo", f"160000,{upstream.first},pkg/third_party")
    git(upstream.path, "commit", "--quiet", "-m", "submodule")
    heard = Listener()
    with reporting(heard):
        fetch(upstream.pin(), git(upstream.path, "rev-parse", "HEAD"))
    assert heard.warnings == ["Submodules are not fetched: pkg/third_party."]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written(upstream: Upstream, own_environment: Path) -> None:
    own_environment.chmod(0o555)
    try:
        with pytest.raises(DiskError, match="is not writable"):
            fetch(upstream.pin(), upstream.pinned)
    finally:
        own_environment.chmod(0o755)


def test_a_bundle_needs_no_network(upstream: Upstream, tmp_path: Path, own_environment: Path) -> None:
    pin, file = upstream.pin(), tmp_path / "x" / "pkg.bundle"
    size = write_bundle(pin, upstream.pinned, upstream.tree, file)
    assert size == file.stat().st_size < 5000
    assert file.parent.stat().st_mode & 0o777 and [path.name for path in file.parent.iterdir()] == [
        "pkg.bundle"
    ]
    heads = git(tmp_path, "bundle", "list-heads", str(file))
    assert heads == f"{upstream.pinned} refs/sagefix/pkg"
    again = tmp_path / "again.bundle"
    write_bundle(pin, upstream.pinned, upstream.tree, again)
    assert again.read_bytes() == file.read_bytes()

    forget(own_environment)
    upstream.path.rename(upstream.path.with_name("gone"))
    offline = upstream.pin("https://localhost:1/x")
    assert resolve(offline, upstream.pinned[:8], str(file), offline=True) == upstream.pinned
    fetched = fetch(offline, upstream.pinned, tree=upstream.tree, origin=str(file), offline=True)
    assert fetched.origin == str(file) and fetched.received > 0
    assert export(fetched, offline, tmp_path / "out") == len(SELECTED)
    assert fetch(offline, upstream.pinned, origin=f"file://{file}").from_cache
    # A bundle can be written from a bundle.
    assert write_bundle(pin, upstream.pinned, "", tmp_path / "third", origin=str(file), offline=True) == size


def test_a_bundle_that_git_wrote(upstream: Upstream, tmp_path: Path) -> None:
    file = tmp_path / "all.bundle"
    git(upstream.path, "bundle", "create", "--quiet", str(file), "--all", "HEAD")
    pin = upstream.pin("https://localhost:1/x")
    assert resolve(pin, "v1", str(file)) == upstream.pinned
    assert resolve(pin, "HEAD", str(file)) == resolve(pin, "main", str(file)) == upstream.tip
    assert fetch(pin, upstream.pinned, tree=upstream.tree, origin=str(file)).received > 0
    with pytest.raises(SourceError, match=r"has no ref 'nosuch'\. It holds .*refs/heads/main"):
        resolve(pin, "nosuch", str(file))


def test_a_bundle_of_something_else_says_what_it_holds(upstream: Upstream, tmp_path: Path) -> None:
    other = Upstream(tmp_path / "other")
    (other.path / "x").write_text("x")
    commit = other.commit("x")
    file = tmp_path / "other.bundle"
    write_bundle(other.pin(), commit, "", file)
    with pytest.raises(SourceError, match=rf"It holds {commit[:12]} \(refs/sagefix/pkg\)"):
        fetch(upstream.pin(), "1" * 40, origin=str(file))
    with pytest.raises(SourceError, match="is a folder"):
        write_bundle(other.pin(), commit, "", tmp_path)


def test_damaged_bundles(upstream: Upstream, tmp_path: Path) -> None:
    file = tmp_path / "x.bundle"
    write_bundle(upstream.pin(), upstream.pinned, "", file)
    content = file.read_bytes()
    for damaged in (content[:-30], content[:300] + bytes([content[300] ^ 1]) + content[301:], content[:150]):
        file.write_bytes(damaged)
        with pytest.raises(SourceError, match="is damaged"):
            fetch(upstream.pin(), upstream.pinned, origin=str(file))
    git(upstream.path, "bundle", "create", "--quiet", str(file), f"{upstream.first}..main")
    with pytest.raises(SourceError, match=r"not all of its files|only what came after|is missing"):
        fetch(upstream.pin(), upstream.pinned, origin=str(file))


def test_a_folder_is_the_commit_if_all_of_it_is(
    upstream: Upstream, tmp_path: Path, own_environment: Path
) -> None:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    archive = tmp_path / "a.tar"
    git(upstream.path, "archive", f"--output={archive}", upstream.pinned)
    shutil.unpack_archive(archive, folder, **({"filter": "tar"} if sys.version_info >= (3, 12) else {}))
    pin, heard = upstream.pin("https://localhost:1/x"), Listener()
    (folder / "pkg" / "__pycache__").mkdir()
    (folder / "pkg" / "__pycache__" / "x.pyc").write_text("")
    with reporting(heard):
        fetched = fetch(pin, upstream.pinned, tree=upstream.tree, origin=str(folder))
        assert (fetched.commit, fetched.tree) == (upstream.pinned, upstream.tree)
        assert commit_time(fetched) == 315532800
        assert export(fetched, pin, tmp_path / "out") == len(SELECTED)
        # The tree is known by its name from now on.
        assert fetch(pin, upstream.pinned, tree=upstream.tree, offline=True).from_cache
        with pytest.raises(SourceError, match="a bundle holds a commit"):
            write_bundle(pin, upstream.pinned, upstream.tree, tmp_path / "b", origin=str(folder))
        (folder / "notes.txt").write_text("mine")
        again = fetch(pin, upstream.pinned, tree=upstream.tree, origin=str(folder))
        assert again.commit == upstream.pinned and again.from_cache
    assert not heard.warnings

    forget(own_environment)
    with reporting(heard):
        unknown = fetch(pin, upstream.pinned, tree=upstream.tree, origin=str(folder))
    assert unknown.commit == f"dir{unknown.tree[:12]}" and unknown.tree != upstream.tree
    assert unknown.setup_py == fetched.setup_py
    assert len(heard.warnings) == 1 and "cannot be shown to be commit" in heard.warnings[0]
    assert export(unknown, pin, tmp_path / "out2") == len(SELECTED)
    assert commit_time(unknown) == 315532800
    with reporting(Listener()) as silent:
        assert fetch(pin, unknown.commit, tree=unknown.tree, origin=str(folder)).from_cache
    assert isinstance(silent, Listener) and not silent.warnings
    with pytest.raises(SourceError, match="folder without git history"):
        resolve(pin, "main", str(folder))


def test_a_folder_with_something_else(upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "x").write_text("")
    with pytest.raises(SourceError, match="holds none of the files that pkg is built from"):
        fetch(upstream.pin(), upstream.pinned, origin=str(tmp_path / "else"))
    os.mkfifo(tmp_path / "else" / "setup.py")
    with pytest.raises(SourceError, match="is neither a file nor a link"):
        fetch(upstream.pin(), upstream.pinned, origin=str(tmp_path / "else"))


def test_the_embedded_demo_is_its_commit(tmp_path: Path) -> None:
    pin = load_pin("demo")
    assert resolve(pin, "main") == resolve(pin, pin.source.commit[:7]) == pin.source.commit
    fetched = fetch(pin, pin.source.commit, tree=pin.source.tree)
    assert (fetched.commit, fetched.tree, fetched.from_cache) == (pin.source.commit, pin.source.tree, False)
    assert fetched.setup_py in pin.recipe[0].setup_py
    assert commit_time(fetched) == 1767225600
    assert fetch(pin, pin.source.commit, tree=pin.source.tree, offline=True).from_cache
    assert export(fetched, pin, tmp_path / "demo") > 3
    assert write_bundle(pin, pin.source.commit, pin.source.tree, tmp_path / "demo.bundle") > 1000
    with pytest.raises(SourceError, match=r"has the commit .* only"):
        fetch(pin, "1" * 40)


def test_a_changed_embedded_source_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = load_pin("demo")
    manifests = Path(sys.modules["sagefix.settings"].manifests_dir())
    shutil.copytree(manifests / "demo", tmp_path / "demo")
    (tmp_path / "demo" / "setup.py").write_text("# changed\n")
    monkeypatch.setattr("sagefix.source.origins.manifests_dir", lambda: tmp_path)
    with pytest.raises(SourceError, match="The embedded source was changed") as caught:
        fetch(pin, pin.source.commit, tree=pin.source.tree)
    assert set(caught.value.details) == {"commit", "tree"}
