"""Images and cines of one fetus come in; lengths, age, weight and warnings go out."""
