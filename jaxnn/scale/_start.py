"""`start`: connects this process with the other processes of a run.

    jaxnn.scale.start()                              # in an allocation of Slurm, a TPU pod, ...
    jaxnn.scale.start("10.0.0.1:8476", 4, 2)         # the third of four, anywhere

All processes run the same script. The first one owns the run directory and prints; the others only
compute. The variables `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` may
replace the arguments.
"""

import os
import socket
import sys
import threading
import time
from typing import NamedTuple

import jax

from jaxnn.checks import InvalidValue
from jaxnn.scale import processes, watch
from jaxnn.typing import Any

# Seconds without a heartbeat until jax ends all processes, after `watch` should have done it; and
# until a process of this machine, or another one, must have come.
HEARTBEAT, WAIT_HERE, WAIT = 28, 20.0, 300.0
PREEMPTION = "jax_enable_preemption_service"
VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


class _Place(NamedTuple):
    """Where a process stands among the others."""

    coordinator_address: str
    num_processes: int
    process_id: int


def start(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    wait: float | None = None,
) -> None:
    """Connects this process with the others of its run; does nothing in a single process.

    Call it before any other use of jax. Without arguments, the environment determines the
    processes: the three variables, a worker of Ray's `JaxTrainer`, or what `jax.distributed`
    detects (Slurm, Open MPI, Cloud TPU, Kubernetes). A second call does nothing.

    Args:
      coordinator_address: the host and a free port of process 0, such as `"10.0.0.1:8476"`.
      num_processes: the number of processes.
      process_id: the index of this process, from 0.
      wait: the seconds to wait for all processes; by default 20 on one machine, otherwise 300.

    Raises:
      InvalidValue: if the arguments are incomplete or out of range, or the port is in use.
      ProcessLost: if process 0 does not start in time; if another process does not, process 0
        prints the reason, and all processes exit.
    """
    if processes.client() is not None:  # connected by a call before, or by Ray
        watch.begin()
        return
    if PREEMPTION in jax.config.values:
        # Its handler of SIGTERM would replace the one that saves the run.
        jax.config.update(PREEMPTION, False)
    given = (coordinator_address, num_processes, process_id)
    place = _checked(given) if given != (None,) * 3 else _from_variables() or _from_ray()
    if place is None and _in_cluster():
        _initialize(initialization_timeout=int(wait or WAIT))
    elif place is not None and place.num_processes > 1:
        host = place.coordinator_address.rpartition(":")[0]
        _connect(place, wait or (WAIT_HERE if host in _LOCAL else WAIT))
    watch.begin()


def _checked(given: tuple[Any, Any, Any]) -> _Place:
    names = ("coordinator_address", "num_processes", "process_id")
    words = ", ".join(f"{name}={value!r}" for name, value in zip(names, given))
    address, number, index = given
    port = str(address).rpartition(":")[2]
    whole = all(type(value) is int for value in (number, index))
    if not whole or not 0 <= index < number or not port.isdecimal() or int(port) > 65535:
        raise InvalidValue(
            "start",
            "the processes are not described whole",
            got=words,
            expected="an address HOST:PORT, how many processes there are, and which this is from 0",
            fix='Pass, say, start("10.0.0.1:8476", 4, 0), or set'
            f" {', '.join(VARIABLES)}; a cluster that jax detects needs none of them",
        )
    return _Place(*given)


def _from_variables() -> _Place | None:
    address, count, index = (os.environ.get(name) for name in VARIABLES)
    if not (address or count or index) or (not (count and index) and _in_cluster()):
        return None  # a cluster says the rest; jax reads the address too
    count, index = (int(x) if x and x.isdecimal() else x for x in (count, index))
    return _checked((address, count, index))


def _from_ray() -> _Place | None:
    """Returns the place of a worker of Ray's trainers; its first worker chooses the address."""
    train = sys.modules.get("ray.train")
    if train is None:
        return None
    try:
        context = train.get_context()
        count, index = context.get_world_size(), context.get_world_rank()
    except Exception:  # the driver of a run, and no worker
        return None
    if not count or count == 1:
        return None
    import ray  # pyright: ignore[reportMissingImports]
    from ray.train.collective import (  # pyright: ignore[reportMissingImports]
        broadcast_from_rank_zero,
    )

    mine = f"{ray.util.get_node_ip_address()}:{free_port()}" if index == 0 else None
    return _Place(broadcast_from_rank_zero(mine), count, index)


def free_port() -> int:
    """Returns a port of this machine that nothing uses."""
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def _in_cluster() -> bool:
    """Returns whether this process runs in a cluster that jax detects."""
    from jax._src.clusters import ClusterEnv  # jax tells it by an error alone, or connects at once

    kinds = [kind for kind in ClusterEnv._cluster_types if not kind.opt_in_only_method]
    return any(kind.is_env_present() for kind in kinds)


def _connect(place: _Place, wait: float) -> None:
    host, _, port = place.coordinator_address.rpartition(":")
    until = time.monotonic() + wait
    if place.process_id == 0:
        _check_free(place, int(port))
    else:
        _await_first(place, host.strip("[]"), int(port), until)
    # jax aborts without a word to a user where another process is missing.
    timer = threading.Timer(max(1.0, until - time.monotonic()), _give_up, (place, wait))
    timer.daemon = True
    timer.start()
    _initialize(*place, initialization_timeout=int(wait) + 30)
    timer.cancel()


def _initialize(*arguments: Any, **options: Any) -> None:
    jax.distributed.initialize(*arguments, heartbeat_timeout_seconds=HEARTBEAT, **options)


def _check_free(place: _Place, port: int) -> None:
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise InvalidValue(
            "start",
            "the port of process 0 cannot be used",
            got=f"{place.coordinator_address}: {error.strerror}",
            expected="a port that no process uses",
            fix=f"Pass another one to all processes, such as {free_port()}",
        ) from None


def _await_first(place: _Place, host: str, port: int, until: float) -> None:
    while True:
        try:
            socket.create_connection((host, port), timeout=1.0).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise processes.ProcessLost(
                    "start",
                    f"process {place.process_id} cannot reach process 0",
                    got=f"{place.coordinator_address}: {error}",
                    expected="the address at which process 0 runs",
                    fix="Start all processes at about the same time, with the same address",
                ) from None
            time.sleep(0.1)


def _give_up(place: _Place, wait: float) -> None:
    """Ends a process whose peers do not come, which jax would abort."""
    error = processes.ProcessLost(
        "start",
        "another process has not come",
        got=f"fewer than {place.num_processes} processes at {place.coordinator_address} after"
        f" {wait:.0f} s",
        expected=f"all {place.num_processes} of them",
        fix="Start all of them at about the same time; start(wait=SECONDS) waits longer",
    )
    if place.process_id == 0:
        print(error, file=sys.stderr, flush=True)
    os._exit(watch.INTERRUPTED)
