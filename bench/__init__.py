"""The benchmark suite: the service beside its floors and its baselines, in turn, on one machine."""
