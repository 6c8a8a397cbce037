"""The style that all HTML pages share: nothing is cut on a screen 400 px wide or on paper."""

# Tables are in a box of the class `scroll`: where a table is wider than the screen, the box scrolls and not the page.
# On paper nothing can scroll, so cells are narrower there; a heading stays on the page of what it belongs to.
STYLE = """
body { overflow-wrap: break-word; }
.scroll { overflow-x: auto; max-width: 100%; margin: .6rem 0 1rem; }
td, th { overflow-wrap: normal; }
img, svg, video { max-width: 100%; height: auto; }
pre { overflow-x: auto; max-width: 100%; }
@media print {
  .scroll, pre { overflow: visible; } pre { white-space: pre-wrap; }
  .scroll td, .scroll th { padding-right: .3rem; } .scroll .n { white-space: normal; }
  h1, h2, h3, h4, caption, summary, thead { break-after: avoid; }
  h2 + p, h3 + p, p:has(+ .scroll) { break-inside: avoid; break-after: avoid; }
  tr, figure, blockquote, dl, .headline { break-inside: avoid; } thead { display: table-header-group; }
  .scroll { break-inside: avoid-page; }
}
"""
