"""What every run needs: DVC's stages, the terminal, heartbeats, and a clean end."""
