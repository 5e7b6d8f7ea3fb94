"""PyTorch's torchrun, except that a failure ends in one message and no page of torchrun's own.

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
"""Seconds in which processes have to end once one has failed or torchrun is told to end."""


def main() -> None:
    """Do as torchrun; the exit code is that of the process that failed first."""
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(GRACE_SECONDS))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is loaded
    logging.disable(logging.CRITICAL)
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    try:
        run.main()
    except ChildFailedError as failed:
        if message := _describe_killed_process(failed.failures):
            sys.stderr.write(f"error: {message}\n")
        sys.exit(_exit_code(failed.get_first_failure()[1].exitcode))
    except SignalException as told_to_end:
        sys.exit(_exit_code(-told_to_end.sigval))
    except (RendezvousError, RuntimeError, ValueError, OSError) as mistake:
        sys.exit(f"error: torchrun: {mistake}")


def _describe_killed_process(failures: Mapping[int, "ProcessFailure"]) -> str | None:
    # Who leaves with an exit code has said why, or knows who did; but for those whom torchrun told
    # to end when another was killed, before they noticed it themselves.
    told_to_end = _exit_code(-signal.SIGTERM)
    codes = [failure.exitcode for failure in failures.values()]
    if any(0 < code != told_to_end for code in codes) or not any(code < 0 for code in codes):
        return None
    if any(failure.error_file_data.get("message") != "<NONE>" for failure in failures.values()):
        return None
    killed = {rank: each for rank, each in failures.items() if each.exitcode < 0}
    rank, failure = min(killed.items(), key=lambda item: item[1].timestamp)
    name = signal.Signals(-failure.exitcode).name
    return (
        f"process {rank} was killed by {name}; the same command goes on from the last state saved"
    )


def _exit_code(code: int) -> int:
    # As a shell has it: a process killed by a signal gives 128 and the signal's number.
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    main()
