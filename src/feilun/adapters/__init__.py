"""One package for each outside technology, behind the ports. Imports floors 0 to 3 only."""
