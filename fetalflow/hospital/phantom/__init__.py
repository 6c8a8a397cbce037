"""Settings and a seed come in; the drop of a synthetic hospital with known ground truth goes out."""
