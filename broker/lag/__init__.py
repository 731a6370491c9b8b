"""How far consumer groups are behind, in records and in seconds."""
