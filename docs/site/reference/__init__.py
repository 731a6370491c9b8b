"""Pages of the reference, made from the code and its documents."""
