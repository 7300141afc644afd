"""What a process needs for a large map, seen from outside: the C library's heap is part of it."""

import subprocess
import sys

import pytest

CODE = """
import resource, torch
from mqa_lib import kernels
q, k, v = torch.randn(1, 18432, 48), torch.randn(1, 9216, 48), torch.randn(1, 9216, 48)
def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
kernels.read(q[:, :64], k, v)
before = most()
with torch.inference_mode():
    kernels._by_convolutions(q, k, v, 0.0)
print(most() - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="the largest resident set is counted in other units elsewhere"
)
def test_a_large_map_needs_the_memory_of_a_few_blocks_and_not_of_all():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 120  # MiB; all scores together are 648, and the heap once grew by half of that
