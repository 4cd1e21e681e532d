"""Who may call, how often, and what they are charged by."""
