"""Records read at least once and finished in any order."""
