"""The pure kernel: fold, merge, read, and the naive oracle."""
