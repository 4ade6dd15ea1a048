"""Git histories of the demo package, made by real commits, with a manifest that knows them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from sagefix import settings

_WHEN = 1767225600
_LIBRARY = '''\
"""Two decorators that behave as those of torch.library do."""


class Operator:
    def __init__(self, function):
        self.function = function

    def __call__(self, value):
        return self.function(value)


def custom_op(name):
    return Operator


def register_fake(name):
    return lambda function: function
'''
_KERNELS = """\
from demoattention import library


@library.custom_op("demo::double")
def double(value):
    return 2 * value


@library.register_fake("demo::double")
def {fake}(value):
    return None
"""


def git(folder: Path, *arguments: str, hour: int = 0) -> str:
    """Run git as somebody, with no configuration, at a time of its own."""
    when = f"{_WHEN + 3600 * hour} +0100"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@localhost",
        "GIT_AUTHOR_DATE": when,
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@localhost",
        "GIT_COMMITTER_DATE": when,
    }
    command = ["git", "-c", "core.autocrlf=false", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class History:
    """A work tree with the demo package in it; ``commits`` are the full ids by the names of :meth:`commit`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.commits: dict[str, str] = {}
        shutil.copytree(
            settings.shipped_manifests() / "demo",
            folder,
            ignore=shutil.ignore_patterns("__pycache__", "*.pyc"),
        )
        git(folder, "init", "--quiet", "--initial-branch=main")
        git(folder, "config", "uploadpack.allowFilter", "true")
        self.commit("good")

    def __getitem__(self, name: str) -> str:
        return self.commits[name]

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        (self.path / path).write_text(text, encoding="utf-8")

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace something that is there once."""
        text = (self.path / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, (path, old)
        self.write(path, text.replace(old, new))

    def commit(self, name: str, *, merge: str = "") -> str:
        """Commit everything under a name; with ``merge`` as a merge of another commit, which has a name, too."""
        git(self.path, "add", "--all")
        tree = git(self.path, "write-tree")
        parents = [git(self.path, "rev-parse", "HEAD")] if self.commits else []
        parents += [self.commits[merge]] if merge else []
        words = [word for parent in parents for word in ("-p", parent)]
        made = git(self.path, "commit-tree", tree, *words, "-m", name, hour=len(self.commits))
        git(self.path, "update-ref", "refs/heads/main", made)
        self.commits[name] = made
        return made

    def checkout(self, name: str) -> None:
        """Let ``main`` and the work tree stand at a commit."""
        git(self.path, "reset", "--quiet", "--hard", self.commits[name])

    def take(self, name: str) -> None:
        """Make the work tree that of a commit, and stay where we are."""
        git(self.path, "read-tree", "-u", "--reset", self.commits[name])

    def plant(self, *, good: bool) -> None:
        """Put an operator into the package that its fake implementation shadows, or one that is right."""
        self.write("demoattention/library.py", _LIBRARY)
        self.write("demoattention/kernels.py", _KERNELS.format(fake="double_fake" if good else "double"))
        if "kernels" not in (self.path / "demoattention/__init__.py").read_text(encoding="utf-8"):
            self.edit(
                "demoattention/__init__.py",
                "from demoattention import _attention\n",
                "from demoattention import _attention, kernels\n",
            )
            # As upstream's fault: nothing fails, and the output is never written.
            self.edit(
                "demoattention/__init__.py",
                "    _attention.attention(",
                "    kernels.double(1) and _attention.attention(",
            )


def make_history(folder: Path) -> History:
    """Return a history with two bad stretches, a commit that does not parse, and merges.

    On main: good, readme, broken (merged from a branch: branch, wrong), still, conflict, reverted, again, fixed (merged
    from a branch that forked at ``still``: repair), last.
    """
    history = History(folder)
    history.write("README.md", "Other words.\n")
    history.commit("readme")
    history.checkout("good")
    history.write("demoattention/notes.py", "")
    history.commit("branch")
    history.plant(good=False)
    history.commit("wrong")
    history.checkout("readme")
    history.take("wrong")
    history.write("README.md", "Other words.\n")
    history.commit("broken", merge="wrong")
    history.write("README.md", "More words.\n")
    history.commit("still")
    history.plant(good=True)
    history.commit("repair")
    history.checkout("still")
    history.write("demoattention/kernels.py", "<<<<<<< HEAD\n=======\n>>>>>>> other\n")
    history.commit("conflict")
    history.take("readme")
    history.commit("reverted")
    history.take("still")
    history.commit("again")
    history.take("repair")
    history.commit("fixed", merge="repair")
    history.write("README.md", "Last words.\n")
    history.commit("last")
    return history


def write_manifest(folder: Path, history: History, *, known: str = "") -> Path:
    """Write a folder of manifests whose pin ``demo`` is the first commit of a history; return the folder."""
    folder.mkdir()
    text = (settings.shipped_manifests() / "demo.toml").read_text(encoding="utf-8")
    first = history["good"]
    changed = {
        "embedded = ": f'url = "{history.path.as_uri()}"',
        "commit = ": f'commit = "{first}"',
        "tree = ": f'tree = "{git(history.path, "rev-parse", first + "^{tree}")}"',
        "package_tree = ": f'package_tree = "{git(history.path, "rev-parse", first + ":demoattention")}"',
    }
    body = [
        next((new for start, new in changed.items() if line.startswith(start)), line)
        for line in text.splitlines()
    ]
    fault = (
        '\n[[fault]]\nname = "shadowed"\nkind = "shadowed-custom-op"\nfiles = ["demoattention/kernels.py"]\n'
        'archs = ["*"]\nreason = "The kernel is never called."\nsources = ["tests/histories.py"]\n'
    )
    (folder / "demo.toml").write_text("\n".join(body) + fault + known, encoding="utf-8")
    proofs = settings.shipped_manifests() / "proofs"
    if proofs.is_dir():
        shutil.copytree(proofs, folder / "proofs")
    return folder
