"""The gateway: request → features → scorer → reply, and the events that come in."""
