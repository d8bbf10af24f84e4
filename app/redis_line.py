"""One connection to Redis, kept by one thread, a greenlet in the worker. Requests hand it calls of one script.

No request ever connects, resolves a name or shakes hands: it waits for an answer, `PATIENCE_SECONDS` at most, and after
the first that was kept waiting in vain no other waits at all until the thread has found Redis well again. What is
handed over while an answer is under way goes out together: a busy worker needs fewer turns than it has requests.
"""

import logging
import threading
from collections import deque
from time import monotonic, sleep
from typing import Any

import redis

PATIENCE_SECONDS = 0.15  # a healthy Redis next door answers within a millisecond
GRACE_SECONDS = 0.05  # for an answer that is there already: a worker that was busy meanwhile sees its own clock first
PAUSE_SECONDS = 0.5  # between two attempts to find Redis well again
IDLE_SECONDS = 30.0  # without a call; then the line is tried, so that no request finds out that it is dead

Call = tuple[str, str]  # the script's key and its argument

log = logging.getLogger("app.limits")


class LineDown(Exception):
    """Redis cannot be asked just now."""


class Question:
    """A call, and where its answer will be; `done` without an answer when there is none."""

    __slots__ = ("answer", "call", "done")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.answer: bytes | None = None
        self.done = threading.Event()


class Line:
    """Calls one Lua script. `probe` is a call that writes and harms nobody: a Redis that only reads is of no use."""

    def __init__(self, url: str, script: str, probe: Call) -> None:
        pool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            protocol=2,
            driver_info=None,  # no CLIENT SETINFO: two round trips for a name in a list
        )
        self._connection: Any = pool.make_connection()  # most of its methods carry no types
        self._script = script
        self._probe = probe
        self._digest = ""
        self._up: bool | None = None  # None before the first attempt: whoever comes then waits for it
        self._since = monotonic()  # of `_up`
        self._questions: deque[Question] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    @property
    def is_up(self) -> bool:
        """Whether the last that was heard of Redis was good."""
        return self._up is True

    def ask(self, key: str, argument: str) -> bytes:
        """The script's answer. Raises LineDown, at once while Redis is known to be away."""
        question = self._hand_over((key, argument))
        if not (question.done.wait(PATIENCE_SECONDS) or question.done.wait(GRACE_SECONDS)):
            self._turn(False, "no_answer")
        if question.answer is None:
            raise LineDown
        return question.answer

    def tell(self, key: str, argument: str) -> None:
        """Call the script without waiting for its answer. Raises LineDown."""
        self._hand_over((key, argument))

    def _hand_over(self, call: Call) -> Question:
        if self._thread is None:
            self._start()
        if self._up is False:
            raise LineDown
        question = Question(call)
        self._questions.append(question)
        self._wake.set()
        return question

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="redis line", daemon=True)
                self._thread.start()

    # --- the thread's own ---

    def _run(self) -> None:
        try:
            while True:
                self._keep()
                sleep(PAUSE_SECONDS)
        finally:
            self._thread = None  # a fault of our own ended it: the next request starts it anew

    def _keep(self) -> None:
        """Connect, and carry questions and answers for as long as all is well."""
        kind = "fault"
        try:
            self._connect()
            self._turn(True, "")
            self._serve()
        except (redis.RedisError, OSError) as error:
            kind = type(error).__name__
        finally:
            self._turn(False, kind)
            self._connection.disconnect()
            while self._questions:  # nobody waits for what will not come
                self._questions.popleft().done.set()

    def _connect(self) -> None:
        self._connection.connect()
        self._connection.send_command("SCRIPT", "LOAD", self._script)
        self._digest = self._read().decode()
        self._exchange([Question(self._probe)])

    def _serve(self) -> None:
        """Carry questions and answers until something goes wrong. Raises RedisError or OSError."""
        while self._up:  # a request that waited in vain turns it down too
            if not self._wake.wait(IDLE_SECONDS):
                self._exchange([Question(self._probe)])
            self._wake.clear()
            self._exchange([self._questions.popleft() for _ in range(len(self._questions))])

    def _exchange(self, batch: list[Question]) -> None:
        calls = [("EVALSHA", self._digest, 1, *question.call) for question in batch]
        try:
            self._connection.send_packed_command(self._connection.pack_commands(calls), check_health=False)
            for question in batch:
                question.answer = self._read()
                question.done.set()
        finally:
            for question in batch:
                question.done.set()

    def _read(self) -> Any:
        try:
            return self._connection.read_response(disconnect_on_error=False)
        except redis.TimeoutError:
            if not self._connection.can_read():
                raise
            return self._connection.read_response()  # it was this process that was late, not Redis

    def _turn(self, up: bool, kind: str) -> None:
        """Note that Redis is well, or why it is not; the log hears of changes only."""
        if self._up is up:
            return
        before, seconds = self._up, monotonic() - self._since
        self._up, self._since = up, monotonic()
        if not up:
            log.error("rate_limit_storage_down", extra={"error_kind": kind})
        elif before is False:
            log.warning("rate_limit_storage_recovered", extra={"seconds": round(seconds, 1)})
