"""A worker's messages to its supervisor: none that is counted by gets lost."""

from __future__ import annotations

import asyncio
from typing import Any

from feedgate.gateway.process import Channel
from feedgate.gateway.report import Report
from feedgate.identity.refusals import Refusal, RefusalCause


def test_a_full_queue_delays_and_loses_nothing() -> None:
    """More than fits arrives complete and in order once the supervisor reads again."""
    ours, theirs = Channel.pair()
    child = Channel(theirs)
    child.sock.setblocking(False)
    ours.sock.setblocking(False)
    received: list[dict[str, Any]] = []

    async def run() -> None:
        report = Report(child)
        for number in range(5_000):
            report.closed(number)
        report.refused(Refusal(RefusalCause.UNKNOWN_USER, 1.0, user_name="x\n\u202e"))
        for _ in range(2_000):
            await asyncio.sleep(0)
            while True:
                try:
                    message = ours.receive()
                except BlockingIOError:
                    break
                assert message is not None
                received.append(message[0])
            if len(received) == 5_001:
                return

    asyncio.run(run())
    assert [item["number"] for item in received[:-1]] == list(range(5_000))
    assert Refusal.of(received[-1]["refusal"]).user_name == "x\n\u202e"
    ours.close()
    child.close()


def test_questions_are_answered_by_number() -> None:
    """Two questions at once get each its own answer, whatever comes first."""
    ours, theirs = Channel.pair()
    child = Channel(theirs)

    async def run() -> tuple[bool, float]:
        report = Report(child)
        asked = asyncio.gather(
            report.admit(1, "192.0.2.1"), report.password_delay_s(2, "acme", "192.0.2.1")
        )
        await asyncio.sleep(0)
        kinds = [ours.receive(), ours.receive()]
        assert [item[0]["kind"] for item in kinds if item] == ["admit", "password"]
        report.answered(2, 0.5)
        report.answered(3, 9)
        report.answered(1, True)
        return await asked

    assert asyncio.run(run()) == [True, 0.5]
    ours.close()
    child.close()


def test_a_supervisor_that_is_gone_stops_nobody() -> None:
    """What is said to nobody is forgotten."""
    ours, theirs = Channel.pair()
    child = Channel(theirs)
    ours.close()

    async def run() -> None:
        report = Report(child)
        report.closed(1)
        report.failed("192.0.2.1", None)
        assert not report.is_waiting

    asyncio.run(run())
    child.close()
