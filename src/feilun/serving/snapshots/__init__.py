"""The moment of the store at which a request reads."""
