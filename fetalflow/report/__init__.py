"""The files of a finished run come in; explaining pictures, figures and one page go out.

Doors: drawings, evidence, explain/cases, explain/choosing, explain/drawing, explain/gradcam, explain/maps,
explain/measuring, explain/outlines, explain/pictures, explain/stills, figures, page, paper, style,
template.
"""
