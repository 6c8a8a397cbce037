"""Settings and a seed come in; a drop of cines with outlines and true lengths in mm goes out."""
