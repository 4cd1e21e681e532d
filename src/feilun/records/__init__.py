"""What happens, as types."""
