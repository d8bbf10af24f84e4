"""Writes the load balancer of infrastructure/terraform as a configuration of HAProxy, so that it can be played. Pure.

What was read by rules.py and balancer.py goes in, and where things are on this machine. tests/support/alb.py runs the
result.

Not played as AWS does it, so that no test may lean on it:

* fail-open: with every target unhealthy an ALB sends to all of them, HAProxy answers 503;
* the desync classes, 460, 463, and the exact answers to heads above 16 K a line or 64 K in all;
* the bodies of the answers that the balancer itself makes: 400, 502, 503 and 504;
* several nodes: each node of an ALB checks health, counts outstanding requests and keeps connections for itself;
* a target that answers before it has read the whole request: AWS does not say what an ALB does then;
* the end of the deregistration delay, at which an ALB cuts what is still running;
* client_keep_alive, HTTP/2's GOAWAY after 10,000 requests, and a trace header of more than 7 KB.

Nobody knows whether an ALB compares a path as it was sent or decoded. HAProxy compares it as it was sent.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from scripts.alb.balancer import Balancer, Check, Fixed, Listener, Redirect
from scripts.alb.rules import Rule

BALANCE = {"least_outstanding_requests": "leastconn", "round_robin": "roundrobin"}
CONNECT_SECONDS = 10  # an ALB's, which cannot be set
LARGEST_HEAD = 96 * 1024  # bytes; above an ALB's 64 K and what is added to it
MOST_HEADERS = 200
PLAIN = re.compile(r"[A-Za-z0-9/_-]")
WILD = {"*": ".*", "?": "."}


@dataclass(frozen=True)
class Places:
    """Where things are on this machine.

    `binds`: for each listener, what HAProxy's `bind` lines say; `targets`: for each target group, `host:port` of those
    registered from the start; `admin`: the path of the admin socket.
    """

    admin: str
    binds: Mapping[str, Sequence[str]]
    targets: Mapping[str, Sequence[str]] = field(default_factory=dict)


def render(rules: Sequence[Rule], balancer: Balancer, places: Places) -> str:
    """The whole configuration. ValueError for a rule whose weights are all zero, KeyError for what cannot be played."""
    named = [name for rule in rules for name, _ in rule.targets]
    groups = dict.fromkeys([*balancer.groups, *named, *places.targets])
    lines = [
        *_general(balancer, places),
        *(line for one in balancer.listeners for line in _frontend(one, rules, balancer, places)),
        *(line for name in groups for line in _backend(name, balancer, places.targets.get(name, ()))),
    ]
    return "\n".join(lines) + "\n"


def glob_to_regex(pattern: str) -> str:
    """The regular expression of an ALB's pattern: `*` is any number of characters, `?` exactly one.

    All but letters, digits, `/`, `-` and `_` is written by its number, so that nothing can end the word it is in.
    """
    parts = (WILD.get(one) or (one if PLAIN.match(one) else f"\\x{ord(one):02X}") for one in pattern)
    return f"^{''.join(parts)}\\z"


def server_options(balancer: Balancer, group: str) -> str:
    """What the line of a group's server says beside its address.

    An idle connection to it is kept as long as the load balancer keeps one: left to itself HAProxy soon closes them.
    """
    options = f"pool-purge-delay {balancer.idle_timeout}s"
    if group in balancer.groups:
        check = balancer.groups[group].check
        options += f" check inter {_milliseconds(check.interval)} rise {check.healthy} fall {check.unhealthy}"
    return options


def _general(balancer: Balancer, places: Places) -> Iterator[str]:
    yield "global"
    yield f"    stats socket {_quoted(places.admin)} level admin"
    yield "    log stdout format raw local0 info"
    yield "    nbthread 1"
    yield "    maxconn 4000"
    yield f"    tune.bufsize {LARGEST_HEAD}"
    yield f"    tune.http.maxhdr {MOST_HEADERS}"
    yield from ("", "defaults", "    mode http", "    log global", "    option httplog")
    yield f"    timeout connect {CONNECT_SECONDS}s"
    for side in ("client", "server", "http-request", "http-keep-alive"):
        yield f"    timeout {side} {balancer.idle_timeout}s"
    yield "    retries 0"
    yield "    http-reuse always"


def _frontend(listener: Listener, rules: Sequence[Rule], balancer: Balancer, places: Places) -> Iterator[str]:
    own = sorted((rule for rule in rules if rule.listener == listener.name), key=lambda rule: rule.priority)
    yield from ("", f"frontend {listener.name}")
    yield from (f"    bind {words}" for words in places.binds[listener.name])
    for line in (
        "http-request return status 405 if { method TRACE }",
        *(["http-request del-header '[^-A-Za-z0-9]' -m reg"] if balancer.drops_invalid_names else []),
        *_host(),
        *_forwarded(listener),
        *_trace(),
        *(line for rule in own for line in _conditions(rule)),
        *(line for rule in own for line in _choices(rule)),
        f"default_backend default_{listener.name}",
    ):
        yield f"    {line}"
    yield from ("", f"backend default_{listener.name}", f"    {_default(listener.default)}")


def _host() -> Iterator[str]:
    """Only the first Host counts. An ALB takes its own port off; here any port may be the one it is played on.

    Not `host_only`: that writes in lower case, too.
    """
    yield "http-request set-var(txn.host) req.fhdr(host,1),regsub(:[0-9]*$,)"
    yield "http-request set-header Host %[var(txn.host)]"
    yield "http-request set-var(txn.lower_host) var(txn.host),lower"


def _forwarded(listener: Listener) -> Iterator[str]:
    """Not `option forwardfor`: that adds a second header, where an ALB appends to the one there is."""
    yield "http-request set-var(txn.for) req.fhdr(X-Forwarded-For)"
    yield 'http-request set-header X-Forwarded-For "%[var(txn.for)], %[src]" if { var(txn.for) -m found }'
    yield "http-request set-header X-Forwarded-For %[src] unless { var(txn.for) -m found }"
    yield f"http-request set-header X-Forwarded-Proto {listener.protocol.lower()}"
    yield f"http-request set-header X-Forwarded-Port {listener.port}"


def _trace() -> Iterator[str]:
    """A Root of our own where there is none; else Self before it, in the place of another's."""
    name, root = "X-Amzn-Trace-Id", "{ var(txn.root) -m sub Root= }"
    yield "http-request set-var-fmt(txn.now) %{+X}Ts"
    yield "http-request set-var(txn.random) uuid,regsub(-,,g),bytes(0,24)"
    yield 'http-request set-var-fmt(txn.self) "1-%[var(txn.now),lower]-%[var(txn.random)]"'
    yield f"http-request set-var(txn.root) req.fhdr({name}),regsub('^Self=[^;]*;?','')"
    yield f'http-request set-header {name} "Self=%[var(txn.self)];%[var(txn.root)]" if {root}'
    yield f"http-request set-header {name} Root=%[var(txn.self)] unless {root}"


def _conditions(rule: Rule) -> Iterator[str]:
    """One acl for each condition; and the die of a weighted rule, which is thrown once for each request."""
    hosts = [glob_to_regex(host.lower()) for host in rule.hosts]
    paths = [glob_to_regex(path) for path in rule.paths]
    for kind, fetch, patterns in (
        ("host", "var(txn.lower_host) -m reg", hosts),
        ("path", "path -m reg", paths),
        ("method", "method -m str", rule.methods),
    ):
        if patterns:
            yield f"acl {rule.name}_{kind} {fetch} {' '.join(map(_quoted, patterns))}"
    chosen = _chosen(rule)
    if len(chosen) > 1:
        yield f"http-request set-var(txn.die_{rule.name}) rand({sum(weight for _, weight in chosen)})"


def _choices(rule: Rule) -> Iterator[str]:
    kinds = {"host": rule.hosts, "path": rule.paths, "method": rule.methods}
    conditions = [f"{rule.name}_{kind}" for kind, values in kinds.items() if values]
    *first, (last, _) = _chosen(rule)
    below = 0
    for target, weight in first:
        below += weight
        die = f"{{ var(txn.die_{rule.name}) -m int lt {below} }}"
        yield f"use_backend tg_{target} if {' '.join([*conditions, die])}"
    yield " ".join([f"use_backend tg_{last}", *(["if", *conditions] if conditions else [])])


def _chosen(rule: Rule) -> list[tuple[str, int]]:
    """The targets that a rule can choose."""
    chosen = [(target, weight) for target, weight in rule.targets if weight]
    if not chosen:
        raise ValueError(f"rule {rule.name}: all weights are zero")
    return chosen


def _default(action: Fixed | Redirect) -> str:
    if isinstance(action, Redirect):
        location = f"{action.protocol.lower()}://%[var(txn.host)]:{action.port}%[pathq]"
        return f"http-request redirect location {location} code {action.status}"
    kind, body = _quoted(action.content_type), _quoted(action.body)
    return f"http-request return status {action.status} content-type {kind} string {body}"


def _backend(name: str, balancer: Balancer, targets: Sequence[str]) -> Iterator[str]:
    group, options = balancer.groups.get(name), server_options(balancer, name)
    yield from ("", f"backend tg_{name}")
    yield f"    balance {BALANCE[group.algorithm if group else 'round_robin']}"
    if group:
        yield from (f"    {line}" for line in _check(group.check))
    yield from (f"    server s{number} {target} {options}" for number, target in enumerate(targets))


def _check(check: Check) -> Iterator[str]:
    headers = "hdr Host 127.0.0.1 hdr User-Agent ELB-HealthChecker/2.0 hdr Connection close"
    yield "option httpchk"
    yield f"http-check send meth GET uri {_quoted(check.path)} ver HTTP/1.1 {headers}"
    yield f"http-check expect status {check.statuses}"
    yield f"timeout check {_milliseconds(check.timeout)}"


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _quoted(word: str) -> str:
    """A word as HAProxy reads it, whatever is in it."""
    return "'" + word.replace("'", "'\\''") + "'"
