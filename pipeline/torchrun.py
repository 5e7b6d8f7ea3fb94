"""PyTorch's torchrun, with one message on failure in place of torchrun's own report.

python -m pipeline.torchrun --nproc-per-node 2 -m pipeline train --help
"""

import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

GRACE_SECONDS = 10
"""Seconds that the processes have to end once one has failed or torchrun gets a signal."""


def main() -> None:
    """Run torchrun; the exit code is that of the process that failed first."""
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(GRACE_SECONDS))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is loaded
    logging.disable(logging.CRITICAL)
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    try:
        run.main()
    except ChildFailedError as error:
        if message := _describe_killed_process(error.failures):
            sys.stderr.write(f"error: {message}\n")
        sys.exit(_exit_code(error.get_first_failure()[1].exitcode))
    except SignalException as error:
        sys.exit(_exit_code(-error.sigval))
    except (RendezvousError, RuntimeError, ValueError, OSError) as error:
        sys.exit(f"error: torchrun: {error}")


def _describe_killed_process(failures: Mapping[int, "ProcessFailure"]) -> str | None:
    # A process with an exit code has printed the reason, or a peer has. Exceptions are processes
    # that torchrun terminated after another was killed, before they noticed it themselves.
    terminated = _exit_code(-signal.SIGTERM)
    codes = [failure.exitcode for failure in failures.values()]
    if any(0 < code != terminated for code in codes) or not any(code < 0 for code in codes):
        return None
    if any(failure.error_file_data.get("message") != "<NONE>" for failure in failures.values()):
        return None
    killed = {rank: failure for rank, failure in failures.items() if failure.exitcode < 0}
    rank, failure = min(killed.items(), key=lambda item: item[1].timestamp)
    name = signal.Signals(-failure.exitcode).name
    return (
        f"process {rank} was killed by {name}; run the same command to resume from the last saved"
        " state"
    )


def _exit_code(code: int) -> int:
    # As in a shell: 128 plus the signal's number for a process killed by a signal.
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    main()
