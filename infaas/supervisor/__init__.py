"""A whole system on one machine: what `infaas up` starts, watches and stops."""
