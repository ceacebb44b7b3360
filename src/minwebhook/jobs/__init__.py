"""Jobs: their states, the table that holds them, the queue, the executor that runs them, and the store."""
