"""How long `dvc repro` takes when nothing is stale, beside the bare start of DVC.

python benchmarks/graph.py [--repeats 5]     # after `make demo`
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
    done = subprocess.run([*DVC, *arguments], capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"dvc {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    if "Running stage" in done.stdout:
        sys.exit("something was stale: run `make demo` first")
    return elapsed


def main() -> None:
    """Measure the two commands in turn and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    time_dvc("repro")  # a first one warms the disk cache
    pairs = [(time_dvc("repro"), time_dvc("--version")) for _ in range(repeats)]
    repro, bare = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"dvc repro, nothing stale   {repro:6.2f} s   (target: under {TARGET:.0f} s)")
    print(f"dvc --version              {bare:6.2f} s")
    print(f"ratio                      {repro / bare:6.1f}")


if __name__ == "__main__":
    main()
