"""The templates of HTML pages, for every room that writes one."""

from collections.abc import Callable, Mapping

import jinja2

from fetalflow.report.style import STYLE


def page_templates(room: str, folder: str = ".") -> jinja2.Environment:
    """The templates in a folder of a room of the library. Text is escaped, and a value that a page needs and does not
    get is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(f"fetalflow.{room}", folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )


def page_template(
    room: str, filters: Mapping[str, Callable] | None = None, tests: Mapping[str, Callable] | None = None
) -> jinja2.Template:
    """`page.html.j2` of a room, with the style of all pages as `shared_style`.

    filters, tests: those that the page uses, by name.
    """
    templates = page_templates(room).overlay(trim_blocks=True, lstrip_blocks=True)
    templates.filters |= filters or {}
    templates.tests |= tests or {}
    return templates.get_template("page.html.j2", globals={"shared_style": STYLE})
