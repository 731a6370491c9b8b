"""What the autoscaler writes down each second: lag, its health, instances and workers."""
