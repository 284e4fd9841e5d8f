"""What is done with frozen vectors: embed, probe, predict, bouts."""
