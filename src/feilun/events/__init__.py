"""How events come in: validate, name, append once, and keep what is bad."""
