"""The top: reads feilun.toml, builds the parts, runs the processes, speaks to people."""
