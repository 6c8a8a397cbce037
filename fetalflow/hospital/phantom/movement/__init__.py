"""Settings and a seed come in; a drop of cines in which one anatomy moves goes out."""
