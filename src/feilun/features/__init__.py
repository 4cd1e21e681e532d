"""Events to features: stream, rebuild, point in time and online, all callers of the kernel."""
