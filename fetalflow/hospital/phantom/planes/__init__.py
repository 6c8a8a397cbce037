"""Settings and a seed come in; a drop of images of the standard planes goes out."""
