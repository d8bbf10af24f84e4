"""`python -m benchmarks`, from the root of a checkout: what the proxy costs, beside nginx, HAProxy and a hello-world.

Everything is measured in one run, in turns and repeatedly, on 127.0.0.1: docs/performance.md says how to read it.
"""
