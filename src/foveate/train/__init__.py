"""The one training loop, which knows nothing of any method, and what it needs: processes, states on disk, speed, a watch for collapse."""
