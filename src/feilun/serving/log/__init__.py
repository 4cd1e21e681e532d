"""What the gateway writes in the log: events as they come, and every prediction."""
