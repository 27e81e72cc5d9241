"""From CLOSE acknowledged to rows visible: small CSV files, one after another, p50 and p99."""

from __future__ import annotations

import asyncio
import time

import asyncssh
from peers import Feedgate, scratch_folder, start_peers
from report import options, percentile, show_bound

from feedgate.gateway.queries import ask

FILES = 200
BOUND_P50_S = 0.05
BOUND_P99_S = 0.25
GIVE_UP_S = 30
HEADER = "order_id,customer,amount,ordered_at,priority\n"


def main() -> int:
    """Measure, print, and say whether the bounds hold."""
    parser = options(__doc__ or "")
    parser.add_argument("--files", type=int, default=FILES)
    arguments = parser.parse_args()
    with (
        scratch_folder(arguments.scratch, 1 << 20) as folder,
        start_peers(["feedgate"], folder) as (peer,),
    ):
        assert isinstance(peer, Feedgate)
        seconds = asyncio.run(measure(peer, arguments.files))
    print(
        f"{len(seconds)} files: min {min(seconds):.4f}  p50 {percentile(seconds, 50):.4f}"
        f"  p90 {percentile(seconds, 90):.4f}  p99 {percentile(seconds, 99):.4f}"
        f"  max {max(seconds):.4f} s"
    )
    held = show_bound("close to rows, p50", percentile(seconds, 50), BOUND_P50_S, "s")
    held &= show_bound("close to rows, p99", percentile(seconds, 99), BOUND_P99_S, "s")
    return 0 if held else 1


async def measure(peer: Feedgate, files: int) -> list[float]:
    """Put each file, then ask through the gateway's query socket until its row is there.

    The time of the query that sees the row is part of the figure, so it is an upper bound.
    """
    seconds: list[float] = []
    connection = await asyncssh.connect(
        "127.0.0.1",
        peer.port,
        username=peer.user,
        client_keys=[str(peer.key)],
        known_hosts=None,  # a server that this process started itself a moment ago
        config=None,
    )
    async with connection, connection.start_sftp_client() as client:
        for number in range(1_000_000, 1_000_000 + files + 1):
            stream = await client.open(f"orders/bench-{number}.csv", "w")
            await stream.write(f"{HEADER}{number},Ada Lovelace,120.50,2026-11-02 09:30:00,yes\n")
            await stream.close()
            closed = time.perf_counter()
            await asyncio.to_thread(wait_for_row, peer, number, closed)
            seconds.append(time.perf_counter() - closed)
    return seconds[1:]  # the first pays for what only a first load needs


def wait_for_row(peer: Feedgate, number: int, since: float) -> None:
    """Return when a query finds the row."""
    sql = f"SELECT count(*) FROM orders WHERE order_id = {number}"
    while True:
        answer = ask(peer.data / "query.sock", sql)
        if answer is not None and int(answer.rows[0][0]) == 1:
            return
        if time.perf_counter() - since > GIVE_UP_S:
            raise SystemExit(
                f"row {number} was not visible within {GIVE_UP_S} s:\n{peer.output.read_text()}"
            )
        time.sleep(0.001)


if __name__ == "__main__":
    raise SystemExit(main())
