"""Makes the page of `dvc plots show` work without a network: DVC's page loads its scripts from the internet.

python -m flows.running.plots_page
"""

from pathlib import Path

from fetalflow.artefacts import write_text
from flows.checkout import CHECKOUT

PAGE = Path(".dvc/plots/offline.html")
CONFIG = Path(".dvc/config.local")  # not in git, since the page is made on this machine
# DVC fills the two placeholders. Its own placeholder for scripts is left out.
TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>Plots</title>
<script>%s</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def make_page() -> None:
    """Write the page with the scripts of Vega into the checkout. The package vl-convert has them."""
    from vl_convert import javascript_bundle

    write_text(CHECKOUT / PAGE, TEMPLATE % javascript_bundle().replace("</script", "<\\/script"))
    use_page(CHECKOUT)


def use_page(folder: Path) -> None:
    """Let DVC use the checkout's page in `folder`, if setup has made it."""
    if not (CHECKOUT / PAGE).is_file():
        return
    page = folder / PAGE
    if folder != CHECKOUT and not page.exists():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.unlink(missing_ok=True)  # it leads nowhere after a move
        page.symlink_to(CHECKOUT / PAGE)
    if not (folder / CONFIG).is_file():
        write_text(folder / CONFIG, f"[plots]\n    html_template = {PAGE.relative_to('.dvc')}\n")


if __name__ == "__main__":
    make_page()
