"""Time `dvc repro` when no stage is stale, beside the start of DVC.

python -m benchmarks.graph [--repeats 5]     # after `make demo`
"""

import argparse
import statistics
import subprocess
import sys
import time

TARGET = 3.0  # seconds
DVC = [sys.executable, "-m", "dvc"]


def time_dvc(*arguments: str) -> float:
    """Wall time of one DVC command, seconds."""
    start = time.perf_counter()
    process = subprocess.run([*DVC, *arguments], capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"dvc {' '.join(arguments)} failed:\n{process.stdout}{process.stderr}")
    if "Running stage" in process.stdout:
        sys.exit("a stage was stale: run `make demo` first")
    return elapsed


def main() -> None:
    """Measure the two commands in turn and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    time_dvc("repro")  # warms the disk cache
    pairs = [(time_dvc("repro"), time_dvc("--version")) for _ in range(repeats)]
    repro, start = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"dvc repro, no stale stage  {repro:6.2f} s   (target: under {TARGET:.0f} s)")
    print(f"dvc --version              {start:6.2f} s")
    print(f"ratio                      {repro / start:6.1f}")


if __name__ == "__main__":
    main()
