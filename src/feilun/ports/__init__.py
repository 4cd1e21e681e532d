"""What Feilun needs from the outside, one Protocol a file."""
