"""The servers of models that the gateway is compared with: each is run with a port and a model."""
