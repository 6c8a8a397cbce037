"""The template of a page, for every room that writes one."""

from collections.abc import Callable, Mapping

import jinja2

from fetalflow.report.style import STYLE


def page_template(
    room: str, filters: Mapping[str, Callable] | None = None, tests: Mapping[str, Callable] | None = None
) -> jinja2.Template:
    """`page.html.j2` of a room of the library, which has the style of all pages as `shared_style`. Text is escaped, and
    a value that the page needs and does not get is an error.

    filters, tests: those that the page uses, by name.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(f"fetalflow.{room}", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters or {}
    environment.tests |= tests or {}
    return environment.get_template("page.html.j2", globals={"shared_style": STYLE})
