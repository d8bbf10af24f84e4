"""What the proxy's neighbours get to do: MLflow, Redis, the auth service, the load balancer. Pure functions."""

from __future__ import annotations

# Found beside `make bench` on the development machine, 2026-11-21 (docs/scaling.md, "What else was measured").
REDIS_CALLS_PER_S = 30_000.0  # of our script, one after the other on one connection
REDIS_COMMANDS_PER_CALL = 5  # EVALSHA, and TIME, HMGET, HSET, PEXPIRE in it
REDIS_BYTES_PER_CALL = 210  # both ways
REDIS_BYTES_PER_KEY = 250

# What one LCU covers, and how many rules are free: https://aws.amazon.com/elasticloadbalancing/pricing/
LCU_NEW_CONNECTIONS_PER_S = 25.0
LCU_ACTIVE_CONNECTIONS = 3000.0
LCU_GB_PER_HOUR = 1.0
LCU_RULE_EVALUATIONS_PER_S = 1000.0
FREE_RULES = 10


def auth_calls_per_s(keys: int, requests_per_s: float, processes: int, cache_seconds: float) -> float:
    """Questions to the auth service. Each process asks for each key by itself: once the answer is too old, at the next
    request with that key that this process happens to get. So a key asks every `cache_seconds` and the wait for it.
    """
    if not requests_per_s:
        return 0.0
    wait_seconds = processes * keys / requests_per_s
    return keys * processes / (cache_seconds + wait_seconds)


def lcus(
    requests_per_s: float, new_connections_per_s: float, active_connections: float, gb_per_hour: float, rules: int
) -> dict[str, float]:
    """Load balancer capacity units by dimension; the largest counts. They are billed by the hour's averages."""
    return {
        "new connections": new_connections_per_s / LCU_NEW_CONNECTIONS_PER_S,
        "active connections": active_connections / LCU_ACTIVE_CONNECTIONS,
        "bytes": gb_per_hour / LCU_GB_PER_HOUR,
        "rule evaluations": max(0, rules - FREE_RULES) * requests_per_s / LCU_RULE_EVALUATIONS_PER_S,
    }
