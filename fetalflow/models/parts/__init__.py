"""Sequences or feature maps come in; feature maps go out: layers that several networks share."""
