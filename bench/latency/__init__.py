"""How long single answers take, also around a crash."""
