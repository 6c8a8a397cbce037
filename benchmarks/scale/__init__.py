"""What happens when there is much of something, or when a part dies."""
