"""What a user writes, and the frozen project it compiles to."""
