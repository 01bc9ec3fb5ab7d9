"""Workers on a real Ray cluster: what arrives, and what is noticed when a worker, its node or its leader is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import psutil
import pytest

from batchrun.errors import InputError
from batchrun.scale.links import Link, WorkerLost
from batchrun.scale.ray_worker import END_TIMEOUT_S, LEASE_S, Serve
from tests.support import ray_lives
from tests.support.ray_cluster import HeadAndNodes, cluster

pytestmark = [
    pytest.mark.ray,
    pytest.mark.anyio,
    pytest.mark.timeout(150),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def ray_nodes() -> Iterator[HeadAndNodes]:
    """A cluster of two nodes, each with one CPU."""
    with cluster(nodes=2) as found:
        yield found


async def answer(link: Link, message: object) -> tuple[object, int]:
    """Send a message to a worker that echoes; return its answer, with the number of its process."""
    await link.send(message)
    found = await link.receive()
    assert isinstance(found, tuple)
    return found


async def test_messages_arrive_once_and_in_order_though_calls_are_cancelled(ray_nodes: HeadAndNodes) -> None:
    """Sends and receives that are cancelled at any moment put nothing out of step, and lose nothing."""
    from batchrun.scale.ray_links import connected

    with connected(ray_nodes.address, ray_lives.echo, workers=1) as workers:
        link = await workers.start("worker 1")
        answers: list[int] = []

        async def receive_for(seconds: float) -> None:
            with anyio.move_on_after(seconds):
                received = await link.receive()
                assert isinstance(received, tuple)
                answers.append(received[0])

        cancelled = 0
        for number in range(300):
            with anyio.move_on_after(0.0005 * (number % 12)) as sending:
                await link.send(number)
            cancelled += sending.cancelled_caught
            await receive_for(0.0005 * (number % 7))
        await link.send(300)
        while not answers or answers[-1] != 300:
            await receive_for(60)
        assert cancelled > 0
        # A send that was cancelled before it began sends nothing; all others arrive once and in order.
        assert answers == sorted(set(answers))
        assert len(answers) >= 301 - cancelled
        await link.aclose()


async def test_a_killed_worker_is_lost_and_its_place_is_free(
    ray_nodes: HeadAndNodes, capfd: pytest.CaptureFixture[str]
) -> None:
    """The call that waits ends with a line on why, all later ones too; nothing is printed; another worker can start."""
    from batchrun.scale.ray_links import connected

    with connected(ray_nodes.address, ray_lives.echo, workers=2) as workers:
        link = await workers.start("worker 1")
        _, pid = await answer(link, "x")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerLost, match=r"^was lost: its worker process has died"):
            await link.receive()
        with pytest.raises(WorkerLost):
            await link.send("y")
        await link.aclose()
        others = [await workers.start(f"worker {number}") for number in (2, 3)]
        for other in others:
            await other.aclose()
    assert capfd.readouterr().out == ""


async def test_a_stopped_worker_is_not_waited_for_without_end(
    ray_nodes: HeadAndNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that neither ends nor answers, as behind a broken network, is given up."""
    from batchrun.scale import ray_links

    monkeypatch.setattr(ray_links, "SILENCE_TIMEOUT_S", 3.0)
    with ray_links.connected(ray_nodes.address, ray_lives.echo, workers=1) as workers:
        link = await workers.start("worker 1")
        _, pid = await answer(link, "x")
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(WorkerLost, match=r"^has not answered for 3 s$"):
                await link.receive()
        finally:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("life", "reason"),
    [
        (ray_lives.fail, "has failed: ValueError: seven is not a colour"),
        (ray_lives.leave, "has ended"),
    ],
)
async def test_a_life_that_ends_is_reported(ray_nodes: HeadAndNodes, life: Serve, reason: str) -> None:
    """What the worker has sent arrives first; then its end is reported in words."""
    from batchrun.scale.ray_links import connected

    with connected(ray_nodes.address, life, workers=1) as workers:
        link = await workers.start("worker 1")
        await link.send("x")
        if life is ray_lives.leave:
            await link.send("y")
            assert [await link.receive(), await link.receive()] == ["x", "y"]
        with pytest.raises(WorkerLost) as raised:
            await link.receive()
        assert str(raised.value) == reason


async def test_a_busy_leader_keeps_its_workers(ray_nodes: HeadAndNodes) -> None:
    """Beats do not depend on the leader's event loop: a long calculation there ends no worker."""
    from batchrun.scale.ray_links import connected

    with connected(ray_nodes.address, ray_lives.echo, workers=1) as workers:
        link = await workers.start("worker 1")
        time.sleep(LEASE_S + END_TIMEOUT_S + 2)  # noqa: ASYNC251 - the loop is meant to be busy
        assert (await answer(link, "still here"))[0] == "still here"
        await link.aclose()


DRIVER = """
import sys, anyio
from pathlib import Path
from batchrun.scale.ray_links import connected
from tests.support import ray_lives

async def main():
    with connected(sys.argv[1], ray_lives.record, workers=1) as workers:
        link = await workers.start("worker 1")
        await link.send(Path(sys.argv[2]))
        print(await link.receive(), flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_ends_soon_after_its_leader(ray_nodes: HeadAndNodes, tmp_path: Path, number: int) -> None:
    """A leader that is killed takes its worker along; one that is silent loses it within a lease, and the worker can say so."""
    path = tmp_path / "life"
    command = [sys.executable, "-c", DRIVER, ray_nodes.address, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            worker = psutil.Process(int(driver.stdout.readline()))
            driver.send_signal(number)
            worker.wait(timeout=60)  # far more than a lease, for a busy machine
            if number == signal.SIGSTOP:
                assert path.read_text().splitlines()[-1] == "lost the leader"
        finally:
            driver.kill()


async def test_a_lost_node_is_a_lost_worker(ray_nodes: HeadAndNodes) -> None:
    """The worker of a node that is killed is lost; the one of the other node answers."""
    from batchrun.scale.ray_links import connected

    with connected(ray_nodes.address, ray_lives.echo, workers=2) as workers:
        links = [await workers.start(f"worker {number}") for number in (1, 2)]
        ray_nodes.lose_node()
        lost = []

        async def wait(link: Link) -> None:
            try:
                await link.receive()
            except WorkerLost as exc:
                lost.append((link.name, str(exc)))
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for link in links:
                tasks.start_soon(wait, link)
        assert len(lost) == 1
        other = next(link for link in links if link.name != lost[0][0])
        assert (await answer(other, "x"))[0] == "x"
    ray_nodes.add_node()


async def test_a_worker_without_a_place_is_reported(ray_nodes: HeadAndNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster without a free CPU keeps a worker waiting, which is said; it starts as soon as there is one."""
    from batchrun.scale import ray_links

    monkeypatch.setattr(ray_links, "PLACE_NOTICE_S", 1.0)
    notices: list[str] = []
    with ray_links.connected(ray_nodes.address, ray_lives.echo, workers=3, notify=notices.append) as workers:
        links = [await workers.start(f"worker {number}") for number in (1, 2)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(workers.start, "worker 3")
            while not any(notice.startswith("worker 3 waits for a CPU") for notice in notices):
                await anyio.sleep(0.05)
            await links[0].aclose()
    assert "has 2, 0 of them free" in notices[-1]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1: Connection refused"),
        ("nonsense", "Invalid address format"),
    ],
)
def test_an_address_without_a_cluster_is_refused_in_a_line(address: str, expected: str) -> None:
    """One line, with the option and the address."""
    from batchrun.scale.ray_links import connected

    with pytest.raises(InputError, match=r"^--ray") as raised, connected(address, ray_lives.echo, workers=1):
        pass
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_handlers_of_signals_are_kept(ray_nodes: HeadAndNodes) -> None:
    """Ray takes SIGTERM for itself when it connects; it is given back, so that a batch still stops in order."""
    from batchrun.scale.ray_links import connected

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with connected(ray_nodes.address, ray_lives.echo, workers=1):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
