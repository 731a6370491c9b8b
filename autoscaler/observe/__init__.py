"""What the autoscaler sees: statuses, recent load, and the snapshot that a decision is made from."""
