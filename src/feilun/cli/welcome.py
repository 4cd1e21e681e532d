"""What ``feilun up`` says when everything is ready."""

from __future__ import annotations

from feilun.app.config import Config
from feilun.app.terminal import say, say_table
from feilun.app.token import read_token
from feilun.definitions.specs import Project
from feilun.i18n import _
from feilun.serving.access.guard import LOGIN_PATH


def welcome(config: Config, project: Project) -> None:
    """Print where to send what."""
    rows = [
        (_("documentation"), "GET", f"{config.url}{LOGIN_PATH}"),
        (_("send events"), "POST", f"{config.url}/api/events"),
    ]
    rows += [(c.name, "GET", f"{config.url}{c.path}") for c in project.capabilities.values()]
    for view in project.views.values():
        keys = "&".join(f"{entity.name}=…" for entity in view.entities)
        query = f"?{keys}" if keys else ""
        rows.append((view.name, "GET", f"{config.url}/api/{view.name}{query}"))
    rows.append((_("state"), "GET", f"{config.url}/status"))
    say_table(
        (_("what"), "", _("where")), rows, title=_("Feilun serves {name}.", name=project.name)
    )
    # Outside the table, which would break it on a narrow terminal.
    link = f"{config.url}{LOGIN_PATH}?token={read_token(config)}"
    say(_("In a browser: {link}", link=link))
    say(_("Logs: {folder}. Ctrl-C stops.", folder=config.run_path))
