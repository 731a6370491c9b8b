"""What all benches share: figures, load, a system under test, and the bare program beside it."""
