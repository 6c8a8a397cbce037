"""What the code takes in time and memory."""
