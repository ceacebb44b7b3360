"""What operators see: the structured log."""
