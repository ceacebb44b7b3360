"""What operators see: the structured log, and figures."""
