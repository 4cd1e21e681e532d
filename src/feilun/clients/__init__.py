"""Clients of a project's API in Python and JavaScript, generated from its description."""
