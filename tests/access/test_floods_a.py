"""A13 of the catalogue: ten thousand made-up keys cost bounded memory, and no good key its place."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.access.asking import TARGET, ask
from tests.access.vouching import line, proxy_of, scripted_auth
from tests.support.auth_service import new_key
from tests.support.client import open_connection, read_response
from tests.support.fleet import Start
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

THREADS = 4
KEYS_OF_A_THREAD = 1250
MOST_GROWTH_KB = 1536  # by the second half, when the first has filled what there is to fill; seen: 350


def flood(proxy: Proxy, thread: int) -> set[int]:
    """Made-up keys from many addresses, one after the other on one connection; the statuses they got."""
    found = set()
    with open_connection(proxy.port) as connection:
        for number in range(KEYS_OF_A_THREAD):
            address = f"198.51.100.{number % 250}" if thread % 2 else f"203.0.113.{number % 250}"
            head = f"GET {TARGET} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\n"
            connection.sendall(f"{head}Authorization: Bearer {new_key()}\r\n\r\n".encode())
            found.add(read_response(connection).status)
    return found


def test_a13_ten_thousand_made_up_keys_take_no_more_memory_than_five_thousand_and_no_good_keys_place(
    start: Start, upstream: RecordingUpstream
) -> None:
    with scripted_auth() as auth:
        good = auth.grant()
        proxy = proxy_of(start, upstream, auth, 1)
        assert ask(proxy, good).status == 200
        resident = []
        for _ in range(2):
            with ThreadPoolExecutor(THREADS) as pool:
                found = set().union(*pool.map(lambda thread: flood(proxy, thread), range(THREADS)))
            assert found == {401}
            auth.server.requests.clear()
            resident.append(proxy.rss_kb())
        assert resident[1] - resident[0] < MOST_GROWTH_KB
        response = ask(proxy, good)
        assert (response.status, line(proxy, response)["auth_source"], auth.asked()) == (200, "cache", 0)
        assert len(upstream.wait_for(2)) == 2
