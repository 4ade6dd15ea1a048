"""Says what the build files of some commits would build here: ``python shim.py describe.py FOLDER...``.

Each folder's ``setup.py`` is run up to its call of ``setup()``, in one process, so that torch is imported once.
Nothing is compiled. The answer maps each folder to what it gave to ``setup()``, as far as that decides compiled
code and the choice of files, or to an error. The place of the folder itself is written as ``{source}``.
"""

import json
import os
import runpy
import sys
import traceback
from typing import Any, Dict, List

BEGIN, END = "<<<sagefix", "sagefix>>>"

# https://setuptools.pypa.io/en/latest/userguide/ext_modules.html#extension-api-reference
EXTENSION = (
    "name",
    "sources",
    "include_dirs",
    "define_macros",
    "undef_macros",
    "library_dirs",
    "libraries",
    "runtime_library_dirs",
    "extra_objects",
    "extra_compile_args",
    "extra_link_args",
    "export_symbols",
    "swig_opts",
    "depends",
    "language",
    "optional",
    "py_limited_api",
)
# What decides which files a wheel holds: https://setuptools.pypa.io/en/latest/references/keywords.html
CONTENT = (
    "name",
    "packages",
    "package_dir",
    "package_data",
    "exclude_package_data",
    "include_package_data",
    "py_modules",
    "data_files",
    "scripts",
    "entry_points",
    "libraries",
    "namespace_packages",
    "has_ext_modules",
    "options",
)


class Called(BaseException):
    """``setup()`` was reached."""


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; what is no plain data is named by its type."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in sorted(value.items(), key=lambda item: str(item[0]))}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(each) for each in value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    kind = value if isinstance(value, type) else type(value)
    name = "%s.%s" % (kind.__module__, kind.__qualname__)
    return os.fspath(value) if isinstance(value, os.PathLike) else name


def extension(given: Any) -> Dict[str, Any]:
    """Describe one extension."""
    described = {name: plain(getattr(given, name, None)) for name in EXTENSION}
    described["class"] = plain(type(given))
    return described


def described(keywords: Dict[str, Any]) -> Dict[str, Any]:
    """Describe what was given to ``setup()``."""
    extensions = [extension(each) for each in keywords.get("ext_modules") or ()]
    return {
        "extensions": sorted(extensions, key=lambda each: str(each["name"])),
        "commands": plain(keywords.get("cmdclass") or {}),
        "content": {name: plain(keywords[name]) for name in CONTENT if keywords.get(name)},
    }


def describe(folder: str) -> Dict[str, Any]:
    """Run the ``setup.py`` of a folder up to ``setup()``."""
    import distutils.core

    import setuptools

    keywords: Dict[str, Any] = {}

    def setup(**given: Any) -> Any:
        keywords.update(given)
        raise Called

    environment = dict(os.environ)
    paths = list(sys.path)
    before = setuptools.setup, distutils.core.setup
    for module in (setuptools, distutils.core):
        setattr(module, "setup", setup)  # noqa: B010 - mypy knows the real one's type
    sys.argv = ["setup.py", "bdist_wheel"]
    try:
        os.chdir(folder)
        sys.path.insert(0, folder)
        runpy.run_path(os.path.join(folder, "setup.py"), run_name="__main__")
        return {"error": "setup.py ended without a call of setup()"}
    except Called:
        text = json.dumps(described(keywords)).replace(json.dumps(folder)[1:-1], "{source}")
        return {"setup": json.loads(text)}
    except BaseException as error:
        return {"error": "%s: %s" % (type(error).__name__, error), "traceback": traceback.format_exc()}
    finally:
        setuptools.setup, distutils.core.setup = before
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = paths


def main() -> None:
    """Answer on standard output, whatever the build files print there."""
    folders: List[str] = sys.argv[1:]
    # Our own modules are not among those that a build file may import.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    # setuptools brings its own distutils, and has to come first.
    import setuptools  # noqa: F401

    answer = {folder: describe(folder) for folder in folders}
    sys.stdout.flush()
    with open(1, "wb", closefd=False) as out:
        out.write(("\n%s\n%s\n%s\n" % (BEGIN, json.dumps(answer), END)).encode("ascii"))


if __name__ == "__main__":
    main()
