"""Workers that are actors of a Ray cluster, as their leader sees them. Only this module imports Ray."""

from __future__ import annotations

import atexit
import os
import re
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from batchrun.clock import loop_time
from batchrun.errors import InputError
from batchrun.scale.links import WorkerLost
from batchrun.scale.numbered import Arrivals, Unconfirmed
from batchrun.scale.ray_worker import (
    BEAT_S,
    CONNECT_TIMEOUT_S,
    END_TIMEOUT_S,
    LEASE_S,
    SILENCE_TIMEOUT_S,
    Build,
    RayWorker,
    Serve,
)
from batchrun.wording import clipped, shortened

__all__ = ["RayLink", "RayWorkers", "connected"]

LOCAL: Final = "local"
"""The address that starts a Ray of one machine for the time of the batch."""
POLL_S: Final = 1.0
"""Seconds that a worker waits for something to report before it answers."""
PLACE_NOTICE_S: Final = 20.0
"""Seconds without a place in the cluster after which a worker is reported to be waiting."""
REJOIN_S: Final = 15.0
"""Seconds that a worker waits for a place on the node of one that was lost, before it takes any."""


_EXIT_TYPE: Final = re.compile(r"Worker exit type: \w+ Worker exit detail: ")


class RayLink:
    """An actor that serves the leader.

    A call to the actor can be cancelled, lost or repeated, so messages have numbers: what a call carried stays here, or
    in the actor, until a later call has confirmed it.

    Attributes:
        node: the id of its node.

    Mutable state: the two directions; `_inbox`, messages that arrived and were not taken; `_lost`, how the worker
    ended, None before; `_quiet_at_s`, loop time from which a worker that was given up has surely stopped.
    """

    def __init__(self, name: str, node: str, actor: Any, life: Any, heart: _Heart) -> None:
        """
        Args:
            life: the running call of `RayWorker.live`.
        """
        self.name, self.node = name, node
        self._actor, self._life, self._heart = actor, life, heart
        self._sending = anyio.Lock()
        self._unconfirmed, self._arrivals = Unconfirmed(), Arrivals()
        self._inbox: deque[object] = deque()
        self._lost: str | None = None
        self._quiet_at_s = 0.0

    async def send(self, message: object) -> None:
        """See `Link`. A message whose sending was cancelled arrives before the next one."""
        async with self._sending:
            self._unconfirmed.add(message)
            self._unconfirmed.confirm(await self._call("take", self._unconfirmed.all()))

    async def receive(self) -> object:
        """See `Link`. Only one task may wait for messages at a time."""
        while not self._inbox:
            messages, end = await self._call("give", self._arrivals.last, POLL_S)
            self._inbox.extend(self._arrivals.new(messages))
            if end is not None and not self._inbox:
                self._bury(end)
                raise WorkerLost(end)
        return self._inbox.popleft()

    async def _call(self, method: str, *arguments: object) -> Any:
        given_up_s = loop_time() + SILENCE_TIMEOUT_S
        while self._lost is None:
            try:
                with anyio.fail_after(max(0.0, given_up_s - loop_time())):
                    return await getattr(self._actor, method).remote(*arguments)
            except TimeoutError:
                self._give_up(f"has not answered for {SILENCE_TIMEOUT_S:.0f} s")
            except ActorUnavailableError:  # the connection broke: nobody knows yet whether the actor lives
                await anyio.sleep(BEAT_S)
            except RayActorError as exc:
                self._give_up(f"was lost: {_reason(exc)}")
        # Ray reports the death of an actor whose node it cannot reach while its process is still running.
        await anyio.sleep(max(0.0, self._quiet_at_s - loop_time()))
        raise WorkerLost(self._lost)

    def _give_up(self, why: str) -> None:
        if self._lost is None:
            self._quiet_at_s = loop_time() + LEASE_S + END_TIMEOUT_S
            self._bury(why)

    def _bury(self, why: str) -> None:
        if self._lost is None:
            self._lost = why
            self._heart.leave(self._actor)
            ray.kill(self._actor)

    async def aclose(self) -> None:
        """See `Link`. The worker has a moment to end by itself."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(END_TIMEOUT_S):
            if self._lost is None:
                try:
                    await self._actor.end.remote()
                    await self._life
                except RayError:
                    pass  # it has ended
        self._bury("was ended")


class _Heart:
    """The beats that show workers that the process of their leader is running, also while its event loop is busy.

    Mutable state: `_actors`, the workers of the leader; `_stopped`, set when the thread has to end.
    """

    def __init__(self) -> None:
        self._actors: frozenset[Any] = frozenset()
        self._stopped = threading.Event()

    def join(self, actor: Any) -> None:
        self._actors |= {actor}

    def leave(self, actor: Any) -> None:
        self._actors -= {actor}

    def beat(self) -> None:
        """Beat until `stop`."""
        while not self._stopped.wait(BEAT_S):
            for actor in self._actors:
                actor.beat.options(num_returns=0).remote()

    def stop(self) -> None:
        self._stopped.set()


class RayWorkers:
    """The connection to a cluster, on which workers are started."""

    def __init__(self, serve: Serve, heart: _Heart, notify: Callable[[str], None]) -> None:
        self._serve, self._heart, self._notify = serve, heart, notify
        # Nobody restarts it but the leader, which knows what its shard was.
        self._actor_class = ray.remote(num_cpus=1, max_restarts=0, enable_task_events=False)(RayWorker)

    async def start(self, name: str, node: str | None = None) -> RayLink:
        """Start a worker on a node that has a free CPU, and wait until it runs.

        Args:
            node: the id of the node that is preferred; None for any.

        Raises:
            InputError: the node has another version of batchrun or Python, or none.
            WorkerLost: the actor ended at once.
        """
        if node is not None:
            with anyio.move_on_after(REJOIN_S):
                return await self._started(name, NodeAffinitySchedulingStrategy(node, soft=True))
        return await self._started(name, "DEFAULT")

    async def _started(self, name: str, strategy: object) -> RayLink:
        actor = self._actor_class.options(scheduling_strategy=strategy).remote(self._serve)
        try:
            build = await self._placed(name, actor)
            node = await actor.node.remote()
        except anyio.get_cancelled_exc_class():
            ray.kill(actor)
            raise
        except RayActorError as exc:
            raise WorkerLost(f"could not start: {_reason(exc)}") from None
        except RayError as exc:
            raise InputError(f"--ray: {name} could not start: {_reason(exc)}") from None
        if build != Build.here():
            ray.kill(actor)
            raise InputError(
                f"--ray: {name} has {build}, the leader {Build.here()}; install the same on all nodes of the cluster"
            )
        self._heart.join(actor)
        return RayLink(name, node, actor, actor.live.remote(), self._heart)

    async def _placed(self, name: str, actor: Any) -> Build:
        answer = actor.build.remote()
        with anyio.move_on_after(PLACE_NOTICE_S) as scope:
            build: Build = await answer
        if scope.cancelled_caught:
            free, total = (found().get("CPU", 0) for found in (ray.available_resources, ray.cluster_resources))
            self._notify(f"{name} waits for a CPU of the Ray cluster, which has {total:g}, {free:g} of them free")
            build = await answer
        return build


@contextmanager
def connected(
    address: str, serve: Serve, *, workers: int, notify: Callable[[str], None] = lambda _text: None
) -> Iterator[RayWorkers]:
    """Connect to a cluster; all workers end with the context.

    A connection that the calling program has made already is used and kept.

    Args:
        address: `local` for a Ray that is started on this machine, `auto`, or HOST:PORT of the head node.
        serve: what a worker does; a function of a module that the nodes can import.
        workers: how many there will be; a Ray that is started here gets as many CPUs.
        notify: called with a line on workers that wait for a place.

    Raises:
        InputError: there is no such cluster.
    """
    is_ours = not ray.is_initialized()
    if is_ours:
        _check_reachable(address)
        _connect(address, workers)
    heart = _Heart()
    thread = threading.Thread(target=heart.beat, name="batchrun-ray-heart", daemon=True)
    thread.start()
    try:
        yield RayWorkers(serve, heart, notify)
    finally:
        heart.stop()
        thread.join()
        if is_ours:
            ray.shutdown()
            # Ray's colorama would reset the colors at the end of the process, as text that a terminal gets escaped.
            if (colorama := sys.modules.get("colorama.initialise")) is not None:
                atexit.unregister(colorama.reset_all)


def _check_reachable(address: str) -> None:
    # Ray itself would wait for an address where nothing listens without end.
    host, _, port = (os.environ.get("RAY_ADDRESS", "") if address == "auto" else address).rpartition(":")
    if not host or not port.isdecimal():
        return  # Ray says what is wrong with it, or finds the cluster
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as exc:
        raise InputError(f"--ray: no Ray cluster answers at {host}:{port}: {exc.strerror or exc}") from exc


def _connect(address: str, workers: int) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    own: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address == LOCAL else {}
    try:
        # Ray prints its own texts about lost actors, of up to thirty lines, on standard output.
        ray._private.worker.print_to_stdstream = lambda *_arguments, **_options: None
        ray.init(address=address, logging_level="ERROR", log_to_driver=False, **own)
    except ConnectionError as exc:  # Ray's advice names options of its own commands
        found = _reason(exc).partition(" Please specify")[0].rstrip(".")
        advice = (
            "give the HOST:PORT of the head node, or --ray local to start a Ray on this machine"
            if address == "auto"
            else "check the address, and whether the cluster wants a token, which Ray then needs here too"
        )
        raise InputError(f"--ray {shortened(address)}: {found}; {advice}") from exc
    except Exception as exc:  # Ray has no class for this: it raises ValueError, and Exception itself
        raise InputError(f"--ray {shortened(address)}: {_reason(exc)}") from exc
    finally:
        # Ray takes SIGTERM for itself: it would end the process at once.
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None:  # None: it was not set from Python
                    signal.signal(number, handler)


def _reason(exc: Exception) -> str:
    """Return the last line of an error of Ray, without its list of common causes."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()] or [type(exc).__name__]
    text = _EXIT_TYPE.sub("", lines[-1].partition(" Some common causes")[0])
    return clipped(text.removeprefix("The actor is dead because "), 200)
