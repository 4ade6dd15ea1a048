"""A wheel that was built with a fix shows it in its files."""

from __future__ import annotations

import msgspec

from sagefix.wheels.checking import check_wraps
from sagefix.wheels.model import Extension

CALL = "__cudaPushCallConfiguration"
WRAPPER = f"__wrap_{CALL}"


def extension(**changes: object) -> Extension:
    """One that was linked with the fix."""
    linked = Extension(
        path="pkg/_kernel.so",
        module="pkg._kernel",
        machine="x86_64",
        soname="",
        needed=("libcudart.so.13",),
        rpath=(),
        undefined=(CALL,),
        glibc="2.17",
        cubins=("9.0a",),
        ptx=(),
        exports=("PyInit__kernel", WRAPPER),
        relocated=(CALL, WRAPPER),
    )
    return msgspec.structs.replace(linked, **changes)


def test_calls_that_go_through_the_wrapper_are_fine() -> None:
    check = check_wraps([extension()], [CALL])
    assert (check.status, "pkg._kernel" in check.found) == ("ok", True)


def test_an_extension_without_the_wrapper_is_named() -> None:
    check = check_wraps(
        [extension(), extension(module="pkg._other", exports=("PyInit__other",), relocated=(CALL,))], [CALL]
    )
    assert check.status == "failure"
    assert check.found == f"pkg._other calls {CALL} itself"


def test_a_wrapper_that_nobody_calls_is_not_enough() -> None:
    assert check_wraps([extension(relocated=(CALL,))], [CALL]).status == "failure"


def test_modules_without_gpu_code_do_not_matter() -> None:
    assert check_wraps([extension(cubins=(), exports=(), relocated=())], [CALL]).status == "ok"


def test_an_extension_that_launches_nothing_is_fine() -> None:
    assert check_wraps([extension(undefined=(), exports=(), relocated=())], [CALL]).status == "ok"
