"""The shop: a replay of real orders through a running platform, and its report."""
