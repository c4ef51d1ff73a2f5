"""What is free is the least that the machine, its containers and `ulimit -v` leave."""

import resource

import psutil
import pytest
import torch

from spillover.lm import memory as room

CPU = torch.device("cpu")


def group(folder, limit, current, files):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 7\ninactive_file {files}\nactive_file 2\nkernel 5\n")


def test_the_narrowest_container_counts(tmp_path):
    group(tmp_path, 10_000, 4_000, 98)
    group(tmp_path / "inner", "max", 500, 0)
    group(tmp_path / "inner" / "innermost", 3_000, 1_000, 198)
    found = room.free_in_cgroups(tmp_path / "inner" / "innermost")
    assert found == [3_000 - 1_000 + 200, 10_000 - 4_000 + 100]
    assert room.free_in_cgroups(tmp_path / "nowhere")[:1] == [6_100]


def test_no_more_than_the_machine_has():
    assert 0 < room.free(CPU) <= psutil.virtual_memory().total


def test_a_container_bounds_it(tmp_path, monkeypatch):
    group(tmp_path, 2_000_000, 1_000_000, 0)
    monkeypatch.setattr(room, "own_cgroup", lambda: tmp_path)
    assert room.free(CPU) == 1_000_002


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="this system does not limit a process's memory")
def test_ulimit_bounds_it():
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 50_000_000, hard))
    try:
        assert 0 < room.free(CPU) <= 50_000_000
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_the_most_taken_is_at_least_what_is_taken_and_sees_what_is_gone():
    before = room.most_taken(CPU)
    assert before >= room.taken(CPU) * 0.99 > 10_000_000
    for more in (200_000_000, 1_000_000_000):  # The system may take pages of mapped files back meanwhile.
        held = torch.ones((before - room.taken(CPU) + more) // 4)
        assert float(held[0]) == 1
        del held
        if room.most_taken(CPU) >= before + 150_000_000:
            break
    assert room.most_taken(CPU) >= before + 150_000_000
    assert room.taken(CPU) < room.most_taken(CPU) - 100_000_000
