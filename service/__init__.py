"""What every service process shares: how it starts, is watched and stops.

Reading order: settings -> command (flags, `--check`) -> run (signals, drain, exit code) -> observe, probe (is it ready)
-> collector, version.
"""
