"""One small operation again and again for some seconds, and what comes of the times. Standard library only."""

import time


def repeat(operation, seconds, warmup):
    """Milliseconds of each operation that ends in the window of `seconds` after the warm-up, as the load client counts them."""
    begin = time.perf_counter() + warmup
    end, times, started = begin + seconds, [], time.perf_counter()
    while started < end:
        operation()
        ended = time.perf_counter()
        if begin <= ended < end:
            times.append((ended - started) * 1000)
        started = ended
    return times


def percentile(times, percent):
    """The smallest time that so many percent do not exceed."""
    ordered = sorted(times)
    return ordered[max(1, -(-len(ordered) * percent // 100)) - 1]


def summary(times, seconds):
    """The times of all clients, as the load client prints them."""
    if not times:
        raise RuntimeError("no operation came to its end within the time")
    return {"rate": len(times) / seconds, "p50_ms": percentile(times, 50), "p99_ms": percentile(times, 99), "errors": 0}
