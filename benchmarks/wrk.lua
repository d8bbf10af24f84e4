-- Says in one line of JSON what wrk measured; latencies in microseconds.
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"p50_us": %d, "p99_us": %d, "requests": %d, "seconds": %f, "errors": %d}\n',
    latency:percentile(50), latency:percentile(99), summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
