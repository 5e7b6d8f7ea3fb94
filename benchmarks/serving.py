"""Load test of the scoring server on loopback: requests per second and latency.

python -m benchmarks.serving --requests 500
"""

import argparse
import base64
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import requests
import torch

from benchmarks.test_images import make_test_frames
from segformer.model.segformer import SegFormer
from segformer.segmenter import encode
from segformer.weights import checkpoint

TIMEOUT_SECONDS = 60  # of a request


def main() -> None:
    """Print a row for 1 and for 4 clients; exit with an error if any request failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500, help="for each number of clients")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512), help="rows and columns")
    arguments = parser.parse_args()
    body = base64.b64decode(encode(make_test_frames(1, tuple(arguments.size)).images[0]))
    print(f"B0, PNG of {arguments.size[0]} x {arguments.size[1]}, {len(body)} bytes")
    print("| clients | requests/s | median, ms | 95 %, ms | failed |")
    print("|---:|---:|---:|---:|---:|")
    with start_server() as address:
        expected = requests.post(address, data=body, timeout=TIMEOUT_SECONDS).content
        failed = 0
        for clients in (1, 4):
            load = LoadTest(address, body, expected)
            seconds = load.send_all(clients, arguments.requests)
            median, slow = 1e3 * np.quantile(load.seconds, [0.5, 0.95])
            rate = arguments.requests / seconds
            print(f"| {clients} | {rate:.1f} | {median:.0f} | {slow:.0f} | {load.failed} |")
            failed += load.failed
    if failed:
        sys.exit(f"{failed} requests failed")


class LoadTest:
    """Clients that send the same image repeatedly, and compare the responses.

    Attributes:
        seconds: latency of each request.
        failed: number of requests that timed out, were refused or had a wrong response.
    """

    def __init__(self, address: str, body: bytes, expected: bytes) -> None:
        self.seconds: list[float] = []
        self.failed = 0
        self._address = address
        self._body = body
        self._expected = expected

    def send_all(self, clients: int, number: int) -> float:
        """Send `number` requests from several clients at once; return the seconds it took."""
        shares = [number // clients + (k < number % clients) for k in range(clients)]
        threads = [threading.Thread(target=self._send_requests, args=(share,)) for share in shares]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    def _send_requests(self, number: int) -> None:
        with requests.Session() as session:
            for _ in range(number):
                start = time.perf_counter()
                try:
                    response = session.post(self._address, data=self._body, timeout=TIMEOUT_SECONDS)
                    is_correct = response.content == self._expected
                except requests.RequestException:
                    is_correct = False
                self.seconds.append(time.perf_counter() - start)
                self.failed += not is_correct


@contextmanager
def start_server() -> Iterator[str]:
    """Serve B0 with random weights in its own process; yield the address for requests."""
    with TemporaryDirectory() as folder:
        torch.manual_seed(0)
        checkpoint.save(SegFormer("b0"), Path(folder))
        command = [sys.executable, "-m", "pipeline", "serve-model", "--model", folder, "--port=0"]
        with subprocess.Popen(
            command, env=os.environ, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            message = process.stdout.readline()
            try:
                yield message.split("posted to ")[1].split(",")[0]
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
