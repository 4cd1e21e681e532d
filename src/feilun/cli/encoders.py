"""Text encoders of the project: encoder add, list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from feilun.cli.options import AsJson, ProjectFolder, configured
from feilun.i18n import _


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(rich_markup_mode=None, help=_("Add text encoders to the project."))
    group.command("add", help=_("Add the encoder in a folder, after trying it."))(add)
    group.command("list", help=_("Show the encoders that were added."))(list_)
    app.add_typer(group, name="encoder")


def add(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help=_("Holds config.json, tokenizer.json, and model.onnx or model.safetensors."),
        ),
    ],
    project: ProjectFolder = None,
    as_json: AsJson = False,
) -> None:
    """Check an encoder, keep it under its digest, and show how definitions name it."""
    from feilun.app import compose
    from feilun.app.config import prepare_data
    from feilun.app.terminal import say, say_json

    config = configured(project)
    prepare_data(config)
    digest, spec = compose.add_encoder(config, folder)
    if as_json:
        say_json({"digest": digest, "dim": spec.dim, "format": spec.format})
        return
    say(_("The encoder is added. Name it in the definitions:"))
    say(f'text = fl.encoder("{_name(folder)}", dim={spec.dim}, digest="{digest}")')


def list_(project: ProjectFolder = None, as_json: AsJson = False) -> None:
    """Show every encoder that was added, and what the project calls those that it uses."""
    from feilun.app import compose
    from feilun.app.terminal import say, say_json, say_table
    from feilun.models.encoder import stored_encoders

    config = configured(project)
    found = stored_encoders(config.encoders_path)
    used = {digest: each.encoder for digest, each in compose.definitions(config).encoders.items()}
    rows = [
        {
            "digest": digest,
            "name": used.get(digest),
            "dim": spec.dim,
            "format": spec.format,
            "bytes": spec.network.bytes,
        }
        for digest, spec in found.items()
    ]
    if as_json:
        say_json({"encoders": rows})
    elif not rows:
        say(_("No encoders. Add one: feilun encoder add FOLDER"))
    else:
        heads = (_("digest"), _("name"), _("dim"), _("format"), _("bytes"))
        say_table(heads, [tuple(row.values()) for row in rows])


def _name(folder: Path) -> str:
    """Return what an encoder may be called, after its folder."""
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in folder.resolve().name.lower())
    return name if name[:1].isalpha() and not name.startswith("feilun") else f"text_{name}"
