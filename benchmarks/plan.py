"""How much of everything a run measures."""

from dataclasses import dataclass

MB = 1_000_000
GB = 1_000_000_000
MIB = 1024 * 1024
GIB = 1024 * MIB


@dataclass(frozen=True)
class Plan:
    """Seconds of load, repetitions and sizes in bytes."""

    rounds: int  # repetitions of everything that is compared; medians are reported
    small_seconds: float  # of load, for each figure of each target in each round
    transfer_bytes: int  # one upload or download through the stub
    mlflow_bytes: int  # the same through MLflow
    upload_bytes: int  # the one large upload under which memory is watched
    parallel_bytes: int  # each of the parallel transfers under which memory is watched
    parallel: int  # half of them up, half of them down
    fair_bytes: int  # the transfer under which /health is asked
    least_probes: int  # such transfers are repeated until /health was asked this often
    slow_uploads: int
    profile_seconds: float


FULL = Plan(
    rounds=5,
    small_seconds=2.0,
    transfer_bytes=GIB,
    mlflow_bytes=512 * MIB,
    upload_bytes=5 * GB,
    parallel_bytes=GB,
    parallel=50,
    fair_bytes=2 * GB,
    least_probes=300,
    slow_uploads=500,
    profile_seconds=10.0,
)

# Only shows that everything can be measured: its figures mean nothing.
QUICK = Plan(
    rounds=1,
    small_seconds=0.5,
    transfer_bytes=64 * MIB,
    mlflow_bytes=32 * MIB,
    upload_bytes=256 * MB,
    parallel_bytes=16 * MB,
    parallel=50,
    fair_bytes=256 * MB,
    least_probes=20,
    slow_uploads=50,
    profile_seconds=1.0,
)
