"""What lies between asyncssh and the socket."""

from __future__ import annotations

import asyncio

from feedgate.sftp.transport import HandshakeTurns


class _Wire:
    """Notes in which turn of the loop its bytes were taken."""

    def __init__(self, turns: list[int], taken: list[tuple[int, bytes]]) -> None:
        self._turns = turns
        self._taken = taken

    def turn_came(self, data: bytes) -> None:
        self._taken.append((self._turns[0], data))


def test_one_newcomer_at_each_turn() -> None:
    """Bytes of many newcomers are taken in order, and never two in one turn of the loop."""
    taken: list[tuple[int, bytes]] = []

    async def run() -> None:
        turn = [0]
        turns = HandshakeTurns()
        for number in range(20):
            turns.wait(_Wire(turn, taken), bytes([number]))  # type: ignore[arg-type]
        while len(taken) < 20:
            await asyncio.sleep(0)
            turn[0] += 1

    asyncio.run(run())
    assert [data for _turn, data in taken] == [bytes([number]) for number in range(20)]
    assert len({turn for turn, _data in taken}) >= 20
