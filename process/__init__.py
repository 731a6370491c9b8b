"""How a process of ours starts, is watched, is supervised and stops; and the machine it runs on."""
