"""Care for a data directory from outside of the server: backups, putting them back, and checking what is there."""
