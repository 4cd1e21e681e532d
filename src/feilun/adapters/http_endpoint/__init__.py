"""A model that answers behind an HTTP endpoint of its own, fixed when it was adopted."""

from feilun.adapters.http_endpoint.loader import EndpointLoader, EndpointScorer, describe

__all__ = ["EndpointLoader", "EndpointScorer", "describe"]
