"""Text encoders of the project: encoder add, list."""

from __future__ import annotations

from pathlib import Path

import click

from feilun.cli.groups import InOrder
from feilun.cli.options import PATH, configured, json_option, project_option
from feilun.i18n import _


@click.group("encoder", InOrder, no_args_is_help=False, help=_("Add text encoders to the project."))
def group() -> None:
    """Keep text encoders."""


@group.command("add", help=_("Add the encoder in a folder, after trying it."))
@click.argument(
    "folder",
    type=PATH,
    metavar="FOLDER",
    help=_("Holds config.json, tokenizer.json, and model.onnx or model.safetensors."),
)
@project_option
@json_option
def add(folder: Path, project: Path | None, *, as_json: bool) -> None:
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


@group.command("list", help=_("Show the encoders that were added."))
@project_option
@json_option
def list_(project: Path | None, *, as_json: bool) -> None:
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
