"""What the kernel counts: pages touched for the first time, in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from geometry.live import memory

FAULTS = """
import resource, sys
from geometry.live.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory() and keep_freed_memory()
def work():
    for _ in range(10):
        a = b"a" * (40 << 20)
        b = b"b" * (10 << 20)
        del a, b
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(what):
    # the module loads no torch, so the process starts in no time
    answer = subprocess.run([sys.executable, "-c", FAULTS, what], check=True, capture_output=True, text=True)
    return int(answer.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_freed_blocks_are_used_again_without_new_pages():
    assert faults("keep") < faults("leave") / 10


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", None)
    assert memory.keep_freed_memory() is False


@pytest.mark.parametrize("refused", [-1, -2, -3])
def test_a_setting_that_is_refused_is_reported_and_the_others_are_made(monkeypatch, refused):
    asked = []

    class Library:
        def __init__(self, _):
            self.mallopt = lambda setting, value: asked.append(setting) or int(setting != refused)

    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(memory.ctypes, "CDLL", Library)
    assert memory.keep_freed_memory() is False
    assert sorted(asked) == [-3, -2, -1]
