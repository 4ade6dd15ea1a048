"""Cores, memory and jobs, on machines drawn as trees of /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sagefix.errors import UsageError
from sagefix.targets.host import (
    GIB,
    Jobs,
    Memory,
    check_disk,
    check_memory,
    compile_jobs,
    cores,
    disk_free,
    memory,
)

# Without a control group, what the scheduler allows is all there is.
ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
_V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def machine(root: Path, files: dict[str, str], *, total: int = 64, available: int = 60) -> Path:
    """Draw a machine with so many GiB of memory."""
    files = {
        "proc/meminfo": f"MemTotal: {total << 20} kB\nMemFree: 1 kB\nMemAvailable: {available << 20} kB\n",
        **files,
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return root


def test_the_whole_machine(tmp_path: Path) -> None:
    root = machine(tmp_path, {})
    assert memory(root) == Memory(total=64 * GIB, available=60 * GIB)
    assert cores(root) == ALLOWED


def test_version_2_limit_without_what_the_page_cache_can_give_back(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/user.slice/app"
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/app\n",
            "proc/self/mountinfo": _V2,
            f"{group}/memory.max": f"{8 * GIB}\n",
            f"{group}/memory.current": f"{5 * GIB}\n",
            f"{group}/memory.stat": f"anon 1\ninactive_file {2 * GIB}\nactive_file 7\n",
        },
    )
    assert memory(root) == Memory(
        total=8 * GIB, available=5 * GIB, limit_from=str(tmp_path / group / "memory.max")
    )


def test_version_2_limit_of_a_parent_counts(tmp_path: Path) -> None:
    base = "sys/fs/cgroup"
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/container\n",
            "proc/self/mountinfo": _V2,
            f"{base}/pod/container/memory.max": "max\n",
            f"{base}/pod/container/cpu.max": "max 100000\n",
            f"{base}/pod/memory.max": f"{4 * GIB}\n",
            f"{base}/pod/memory.current": f"{1 * GIB}\n",
            f"{base}/pod/cpu.max": "50000 100000\n",
        },
    )
    assert memory(root) == Memory(
        total=4 * GIB, available=3 * GIB, limit_from=str(tmp_path / base / "pod/memory.max")
    )
    assert cores(root) == 1


def test_version_2_with_a_namespace_has_its_group_at_the_mount(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": _V2,
            "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory.current": f"{3 * GIB}\n",
        },
    )
    assert memory(root).total == 2 * GIB
    assert memory(root).available == 0


def test_version_1_without_a_namespace_mounts_the_container_itself(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/docker/abc\n",
            "proc/self/mountinfo": (
                "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
                "33 31 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
            ),
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{16 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{6 * GIB}\n",
            "sys/fs/cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {1 * GIB}\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert memory(root).total == 16 * GIB
    assert memory(root).available == 11 * GIB
    assert cores(root) == 1


def test_version_1_says_no_limit_with_a_huge_number(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/job\n1:cpu:/\n",
            "proc/self/mountinfo": (
                "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
            ),
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": f"{9 * GIB}\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert memory(root) == Memory(total=64 * GIB, available=60 * GIB)
    assert cores(root) == ALLOWED


def test_a_broken_proc_is_no_reason_to_fail(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {"proc/self/cgroup": "nonsense\n0::/../x\n", "proc/self/mountinfo": "1 2\n- cgroup2\n" + _V2},
    )
    assert memory(root).limit_from == ""
    assert cores(root) >= 1
    assert memory(tmp_path / "nothing here").total > 0


@pytest.mark.parametrize(
    ("cores_", "available", "sources", "gib", "jobs"),
    [
        (16, 64, 6, 3.1, Jobs(count=6, limited_by="sources")),
        (2, 64, 6, 3.1, Jobs(count=2, limited_by="cores")),
        (16, 10, 60, 3.1, Jobs(count=3, limited_by="memory")),
        (16, 1, 60, 3.1, Jobs(count=1, limited_by="memory")),
        (4, 1, 60, 0.0, Jobs(count=4, limited_by="cores")),
    ],
)
def test_jobs(cores_: int, available: int, sources: int, gib: float, jobs: Jobs) -> None:
    assert (
        compile_jobs(cores=cores_, memory_available=available * GIB, sources=sources, memory_gib=gib) == jobs
    )


def test_max_jobs_is_obeyed_and_must_be_a_number() -> None:
    def limited(text: str) -> Jobs:
        return compile_jobs(cores=4, memory_available=GIB, sources=6, memory_gib=1, max_jobs_env=text)

    assert limited("12") == Jobs(count=12, limited_by="MAX_JOBS")
    assert limited(" ").limited_by == "memory"
    for wrong in ("many", "0", "-3", "1.5"):
        with pytest.raises(UsageError, match="MAX_JOBS is"):
            limited(wrong)


def test_memory_is_checked_against_the_jobs() -> None:
    one = Jobs(count=1, limited_by="memory")
    low = check_memory(Memory(total=4 * GIB, available=GIB, limit_from="/sys/x"), one, 3.1)
    assert low.status == "warning"
    assert "limited by /sys/x" in low.found
    assert "1 job needs 3.1 GiB" in low.found
    wished = check_memory(Memory(total=8 * GIB, available=8 * GIB), Jobs(count=9, limited_by="MAX_JOBS"), 3.1)
    assert "Lower MAX_JOBS" in wished.fix
    assert check_memory(Memory(total=8 * GIB, available=8 * GIB), one, 3.1).status == "ok"


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    later = tmp_path / "a" / "b"
    assert disk_free(later) > 0
    assert check_disk(later, 1).status == "ok"
    full = check_disk(later, 1 << 62)
    assert full.status == "failure"
    assert "SAGEFIX_CACHE_DIR" in full.fix
