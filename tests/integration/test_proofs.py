"""Proofs from the machine that made them to the wheel, the index and the next installation; on the demo package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from support import make_wheel, serving, verdict
from wheel.wheelfile import WheelFile

from sagefix.checks import failures
from sagefix.errors import VerificationError, WheelError, WheelhouseError
from sagefix.files import sha256_file
from sagefix.wheelhouse.remote import RemoteIndex
from sagefix.wheelhouse.store import Wheelhouse
from sagefix.workflows.gather import gather
from tests.integration.conftest import ROOT, MakeTarget, Sagefix, ask

SCHEMA = Draft202012Validator(json.loads((ROOT / "docs/schemas/proof.schema.json").read_text()))
RIGHT = "import demoattention.__main__ as m; print(m.main())"
PIN = ("--pin", "demo")


def house(path: Path | None = None) -> Wheelhouse:
    return Wheelhouse.open(path or Path(os.environ["SAGEFIX_WHEELHOUSE"]), create=False)


def evidence(wheel: Path) -> Path:
    return wheel.with_name(f"{wheel.name}.proofs.json")


@pytest.fixture
def wheel(sagefix: Sagefix, make_target: MakeTarget) -> Path:
    """The demo's wheel, built and not yet verified, in the wheelhouse."""
    return Path(sagefix("build", *PIN, "--python", make_target("builder")).result["wheel"]["where"])


def changed(wheel: Path, folder: Path) -> Path:
    """The same wheel with a comment more in its public module, and a RECORD that agrees with it."""
    folder.mkdir()
    with zipfile.ZipFile(wheel) as old, WheelFile(folder / wheel.name, "w") as new:
        for name in old.namelist():
            if not name.endswith("/RECORD"):
                data = old.read(name)
                public = name == "demoattention/__init__.py"
                new.writestr(name, data + b"# More.\n" if public else data)
    return folder / wheel.name


def test_an_installation_is_proven_and_the_next_one_relies_on_that(
    sagefix: Sagefix, make_target: MakeTarget, wheel: Path
) -> None:
    target = make_target(build=False)
    install = ("install", *PIN, "--python", target, "--no-build")
    first = sagefix(*install).result
    assert (first["level"], first["relies_on"]) == ("numerics", [])
    assert first["numbers"].startswith("The numbers are proven: numerics on ")
    (proof,) = house().proofs(wheel.name)
    assert (proof.level, proof.passed, proof.capability) == ("numerics", True, "cpu")
    assert proof.verdict["wheel_sha256"] == sha256_file(wheel)
    assert proof.verdict["numerics"]["cases"]
    # Listing it reads a line; the whole of it follows the published schema.
    (listed,) = sagefix("wheelhouse", "list").result
    assert (listed["proof"], listed["proofs"][0]["verdict"]) == ("numerics", {})
    SCHEMA.validate(proof.verdict)
    assert f"numerics on {proof.gpu} (cpu)" in sagefix("wheelhouse", "list", json_=False).out
    shown = sagefix("wheelhouse", "show", wheel.name, json_=False).out
    assert f"cases: {len(proof.verdict['numerics']['cases'])} right" in shown
    assert not failures(house().check())

    again = sagefix(*install).result
    assert (again["action"], again["level"]) == ("already installed", "import")
    assert [each["level"] for each in again["relies_on"]] == ["numerics"]
    assert "They were not computed again." in again["numbers"]
    assert sagefix(*install, "--reinstall").result["level"] == "import"
    assert sagefix(*install, "--verify", "numerics").result["level"] == "numerics"
    # A new environment is computed in: other things than the wheel may be wrong there.
    other = sagefix("install", *PIN, "--python", make_target("other", build=False), "--no-build").result
    assert (other["level"], other["relies_on"]) == ("numerics", [])


def test_a_wheel_with_wrong_numbers_is_taken_back_and_never_chosen_or_published(
    sagefix: Sagefix, make_target: MakeTarget, wheel: Path, tmp_path: Path
) -> None:
    target = make_target(build=False)
    sagefix("install", *PIN, "--python", target, "--no-build")
    bad = tmp_path / "bad"
    # A compiler that was told to compute powers of two: all that a file or an import shows is right.
    build = ("build", *PIN, "--python", make_target("spoiling"), "--wheelhouse", bad)
    assert sagefix(*build, env={"CFLAGS": "-Dexp=exp2"}).code == 0
    install = ("install", *PIN, "--python", target, "--no-build", "--reinstall", "--wheelhouse", bad)
    assert sagefix(*install, "--verify", "import").code == 0
    sagefix("install", *PIN, "--python", target, "--no-build", "--reinstall")
    said = sagefix(*install)
    assert (said.code, said.answer["error"]["name"]) == (16, "verification")
    assert "was put back" in said.answer["error"]["message"]
    assert "numerics attention" in said.answer["error"]["message"]
    assert ask(target, RIGHT).endswith("right\n0")
    (proof,) = [each for each in house(bad).proofs(wheel.name) if not each.passed]
    SCHEMA.validate(proof.verdict)
    assert (proof.level, proof.capability) == ("numerics", "cpu")
    again = sagefix(*install)
    assert again.code == 14
    assert f"it failed the numerics check on {proof.gpu} (cpu)" in again.answer["error"]["message"]
    assert wheel.name not in (bad / "index.html").read_text()
    assert not (bad / "demoattention" / "index.html").exists()
    with pytest.raises(VerificationError, match=r"failed the level numerics on .* \(cpu\); nothing is"):
        gather([bad], tmp_path / "site")
    assert not failures(house(bad).check())
    assert "FAILED level numerics" in sagefix("wheelhouse", "list", "--wheelhouse", bad, json_=False).out


def test_a_proof_travels_back_to_where_the_wheel_was_built(
    sagefix: Sagefix, make_target: MakeTarget, wheel: Path, tmp_path: Path
) -> None:
    """Installed by uv and by pip, on a machine whose wheelhouse does not know the wheel."""
    carried = tmp_path / "carried" / wheel.name
    carried.parent.mkdir()
    carried.write_bytes(wheel.read_bytes())
    elsewhere = {"SAGEFIX_WHEELHOUSE": str(tmp_path / "elsewhere")}
    by_uv = make_target("by-uv", build=False)
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", by_uv, carried], check=True)
    by_pip = tmp_path / "by-pip"
    subprocess.run([sys.executable, "-m", "venv", by_pip], check=True)
    pip = [by_pip / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, carried], check=True)
    for number, target in enumerate((by_uv, by_pip)):
        file = tmp_path / f"{number}.json"
        done = sagefix(
            "verify", *PIN, "--python", target, "--level", "numerics", "--proof", file, env=elsewhere
        )
        assert done.result["wheel_sha256"] == sha256_file(wheel)
        SCHEMA.validate(json.loads(file.read_bytes()))
    assert house().proofs(wheel.name) == ()
    require = ("install", *PIN, "--python", make_target("last", build=False), "--require-proof")
    refused = sagefix(*require)
    assert refused.code == 14
    assert "its numbers are not proven on cpu" in refused.answer["error"]["message"]
    assert "wheelhouse prove" in refused.answer["error"]["hint"]

    taken = sagefix("wheelhouse", "prove", wheel.name, tmp_path / "0.json", tmp_path / "1.json").result
    assert taken["proof"] == "numerics"
    assert sagefix(*require).result["compiled"] is False
    # A copy takes its proofs along.
    copied = sagefix("build", *PIN, "--python", make_target("two"), "--output", tmp_path / "out").result
    assert evidence(tmp_path / "out" / copied["wheel"]["filename"]).is_file()
    added = sagefix("wheelhouse", "add", tmp_path / "out" / wheel.name, "--wheelhouse", tmp_path / "new")
    assert added.result[0]["proof"] == "numerics"

    # uv keeps the path of the wheel alone: another file there proves nothing about what is installed.
    changed(wheel, tmp_path / "other").replace(carried)
    file = tmp_path / "unknown.json"
    said = sagefix("verify", *PIN, "--python", by_uv, "--proof", file, env=elsewhere)
    assert (said.code, said.answer["result"]["wheel_sha256"]) == (11, "")
    assert not file.exists()
    proof = json.loads((tmp_path / "0.json").read_bytes())
    file.write_text(json.dumps({**proof, "wheel_sha256": "0" * 64}))
    said = sagefix("wheelhouse", "prove", wheel.name, file)
    assert (said.code, said.answer["error"]["details"]["found"]) == (11, "0" * 64)
    assert "is about another wheel" in said.answer["error"]["message"]
    said = sagefix("wheelhouse", "prove", wheel.name.replace("1.0.0", "1.0.1"), file)
    assert said.code == 12


def test_levels_that_cannot_be_reached(sagefix: Sagefix, make_target: MakeTarget, wheel: Path) -> None:
    target = make_target(build=False)
    install = ("install", *PIN, "--python", target, "--no-build")
    left_out = sagefix(*install, "--verify", "import")
    assert (
        left_out.result["numbers"]
        == "Nothing proved the numbers: the numbers were left out by --verify import."
    )
    assert "Nothing proved the numbers" in sagefix(*install, "--verify", "none", json_=False).out
    assert sagefix("install", *PIN, "--require-proof", "--rebuild", "--python", target).code == 2
    planned = sagefix(*install, "--dry-run", env={"SAGEFIX_REQUIRE_PROOF": "1"})
    assert planned.code == 14
    assert sagefix(*install, "--dry-run").result["level"] == "numerics"


# The wheelhouse alone: what a GPU would have said is written down


@pytest.fixture
def store(tmp_path: Path) -> Wheelhouse:
    return Wheelhouse.open(tmp_path / "house")


def kept(store: Wheelhouse, tmp_path: Path) -> Path:
    return Path(store.add(make_wheel(tmp_path / "dist")).where)


def test_proofs_of_several_gpus_stand_side_by_side(store: Wheelhouse, tmp_path: Path) -> None:
    wheel = kept(store, tmp_path)
    store.record_proof(
        wheel.name, verdict("NVIDIA H200", "9.0", "right", hazards=["a", "b"]), "numerics", True
    )
    store.record_proof(wheel.name, verdict("NVIDIA A100", "8.0", "wrong"), "numerics", False)
    store.record_proof(wheel.name, verdict("NVIDIA H200", "9.0", "right", hazards=["a"]), "numerics", True)
    (facts,) = store.entries()
    assert [(each.capability, each.passed, len(each.hazards)) for each in facts.proofs] == [
        ("8.0", False, 0),
        ("9.0", True, 1),
    ]
    assert facts.proof == "numerics"
    assert [len(each.verdict["numerics"]["cases"]) for each in store.proofs(wheel.name)] == [1, 1]
    assert len(msgspec.json.decode(evidence(wheel).read_bytes())["proofs"]) == 2
    assert not failures(store.check())
    store.remove(wheel.name)
    assert not evidence(wheel).exists()


def test_a_proof_of_another_wheel_is_refused(store: Wheelhouse, tmp_path: Path) -> None:
    wheel = kept(store, tmp_path)
    with pytest.raises(WheelError, match="is about another wheel with the sha256 000000000000"):
        store.record_proof(wheel.name, {"wheel_sha256": "0" * 64}, "static", True)
    other = make_wheel(tmp_path / "other", body="value = 2\n")
    evidence(other).write_text(json.dumps({"filename": other.name, "sha256": "0" * 64}))
    with pytest.raises(WheelError, match=r"proofs\.json is about .* not about"):
        store.add(other, replace=True)
    evidence(other).write_text("{")
    with pytest.raises(WheelError, match="does not hold proofs"):
        store.add(other, replace=True)
    assert store.entries()[0].sha256 == sha256_file(wheel)


def test_a_damaged_file_of_proofs_is_found(store: Wheelhouse, tmp_path: Path) -> None:
    wheel = kept(store, tmp_path)
    store.record_proof(wheel.name, verdict("NVIDIA H200", "9.0", "right"), "numerics", True)
    good = evidence(wheel).read_bytes()
    for content, found in (
        (good.replace(b'"right"', b'"wrong"'), "is not what the sidecar sums up"),
        (good[:-20], "does not hold proofs"),
        (good.replace(sha256_file(wheel).encode(), b"0" * 64), "is about sageattention"),
        (None, "is gone"),
    ):
        if content is None:
            evidence(wheel).unlink()
        else:
            evidence(wheel).write_bytes(content)
        (check,) = failures(store.check())
        assert found in check.found
        assert check.fix
        with pytest.raises(WheelhouseError, match=r"proofs\.json is (missing|not what the sidecar sums up)"):
            gather([store.path], tmp_path / "site")
        if found != "is not what the sidecar sums up":
            with pytest.raises(WheelhouseError, match=r"proofs\.json"):
                store.proofs(wheel.name)
    assert store.entries()[0].proof == "numerics", "a listing trusts the sidecar"
    store.add(tmp_path / "dist" / wheel.name)
    assert store.entries()[0].proof == "", "nothing is left that would show it"
    assert not failures(store.check())
    evidence(wheel).write_bytes(good)
    assert "is not what the sidecar sums up" in failures(store.check())[0].found
    assert store.add(wheel).proof == "numerics"
    assert not failures(store.check())


def test_a_sidecar_of_the_first_release_is_read(store: Wheelhouse, tmp_path: Path) -> None:
    wheel = kept(store, tmp_path)
    path = wheel.with_name(f"{wheel.name}.sagefix.json")
    old = json.loads(path.read_bytes())
    for name in ("proofs", "proofs_sha256"):
        del old[name]
    del old["facts"]["proofs"]
    told = {
        "gpus": ["NVIDIA H200"],
        "torch": "2.11.0+cu130",
        "wheel_sha256": sha256_file(wheel),
        "checks": [],
    }
    when = "2026-11-20T10:00:00.000001Z"
    old["proofs"] = [{"level": "import", "passed": True, "when": when, "verdict": told}]
    path.write_text(json.dumps(old))
    store.write_index()
    assert not failures(store.check())
    (facts,) = store.entries()
    assert (facts.proof, facts.proofs[0].verdict, facts.proofs[0].capability) == ("import", {}, "")
    assert store.proofs(wheel.name)[0].verdict == told
    assert gather([store.path], tmp_path / "site").wheels[0].proof == "import"
    store.record_proof(wheel.name, verdict("NVIDIA H200", "9.0", "right"), "numerics", True)
    first, second = store.proofs(wheel.name)
    assert (first.verdict, first.when) == (told, when)
    assert second.verdict["numerics"]["cases"]
    assert not failures(store.check())


def test_an_interruption_between_the_proofs_and_the_sidecar(
    store: Wheelhouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = kept(store, tmp_path)
    store.record_proof(wheel.name, {}, "static", True)
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if str(target).endswith(".sagefix.json"):
            raise KeyboardInterrupt
        return real(self, target)

    proof = verdict("NVIDIA H200", "9.0", "right")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            store.record_proof(wheel.name, proof, "numerics", True)
    assert [each.level for each in store.proofs(wheel.name)] == ["static"]
    store.record_proof(wheel.name, proof, "numerics", True)
    assert [each.level for each in store.proofs(wheel.name)] == ["static", "numerics"]
    assert not failures(store.check())


def test_an_index_tells_what_is_proven_and_a_download_brings_it(store: Wheelhouse, tmp_path: Path) -> None:
    wheel = kept(store, tmp_path)
    store.record_proof(wheel.name, verdict("NVIDIA <H200>", "9.0", "right", hazards=['"&']), "numerics", True)
    page = (wheel.parent / "index.html").read_text()
    assert "<td>numerics on NVIDIA &lt;H200&gt; (9.0), 1 hazard</td>" in page
    data = json.loads((wheel.parent / "index.json").read_bytes())["files"][0]["_sagefix"]
    assert data["proof"] == "numerics on NVIDIA <H200> (9.0), 1 hazard"
    (local,) = store.entries()
    json_type = "application/vnd.pypi.simple.v1+json"
    with serving(store.path) as server:
        as_json = (wheel.parent / "index.json").read_bytes()
        for answer in (None, as_json):
            if answer is not None:
                server.behaviour["/sageattention/"] = lambda handler: handler.answer(
                    as_json, Content_Type=json_type
                )
            for url in {server.url, store.path.as_uri()}:
                with RemoteIndex(url, timeout=5) as index:
                    (facts,) = index.candidates("sageattention")
                    assert (facts.proof, facts.proofs) == (local.proof, local.proofs)
                    path = index.download(wheel.name, tmp_path / "down")
                assert evidence(path).read_bytes() == evidence(wheel).read_bytes()
        taken = Wheelhouse.open(tmp_path / "taken").add(path)
        assert taken.proofs == local.proofs
        # Proofs that are not those of the page are left out, and the wheel is unproven.
        evidence(wheel).write_bytes(evidence(wheel).read_bytes() + b" ")
        with RemoteIndex(server.url, timeout=5) as index:
            index.candidates("sageattention")
            path = index.download(wheel.name, tmp_path / "down")
        assert not evidence(path).exists()


@pytest.mark.parametrize(
    "told",
    ["nonsense", "[{}]", '[{"level": 1}]', "{}", '[{"level": "vibes", "passed": true, "when": ""}]', "[[[["],
)
def test_what_an_index_says_of_proofs_is_not_believed_blindly(
    store: Wheelhouse, tmp_path: Path, told: str
) -> None:
    from html import escape

    wheel = kept(store, tmp_path)
    page: Any = (wheel.parent / "index.html").read_text()
    more = f'data-sagefix-proven="{escape(told)}" data-sagefix-proofs="sha256={"0" * 64}"'
    (wheel.parent / "index.html").write_text(page.replace("<a href", f"<a {more} href"))
    with RemoteIndex(store.path.as_uri()) as index:
        (facts,) = index.candidates("sageattention")
        assert (facts.proof, facts.proofs) == ("", ())
        assert not evidence(index.download(wheel.name, tmp_path / "down")).exists()
