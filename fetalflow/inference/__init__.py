"""A model package and an image, cine, array or stream come in; predictions and measurements go out.

Doors: engines/choice, engines/engine, engines/formats, engines/parity, engines/record, engines/spread,
engines/stream_formats, engines/timing, examination/examine, examination/fetus, examination/overlay, examination/result,
latency, package, streaming/live, streaming/source, streaming/streamer, streaming/tally.
"""
