"""Which engine runs a model fastest on this machine: several of them side by side, each in a process of its own."""
