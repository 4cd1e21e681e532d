"""What the benchmarks define: one project a module."""
