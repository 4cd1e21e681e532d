"""Hands the public names on."""
