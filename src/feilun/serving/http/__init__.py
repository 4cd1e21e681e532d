"""The HTTP that the gateway speaks: requests in, within their caps, and whole replies out."""
