"""What every service process shares: how it starts, is watched and stops."""
