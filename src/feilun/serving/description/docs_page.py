"""``/docs``: the OpenAPI description as one page that opens offline.

No script and no asset of another host: the only style is inline and named by its hash in the
Content-Security-Policy, and every text from the definitions is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from typing import Any
from urllib.parse import urlencode

from feilun.i18n import marked, translate
from feilun.serving.description.openapi import EACH_ALONE, MANY

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --line: #e0e1e6;
  --page: #fcfcfd; --card: #fff; --code: #f3f4f7; --get: #0b6e4f; --post: #2b5fb8; }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --soft: #a5a9b2; --line: #33363d;
  --page: #121316; --card: #191b1f; --code: #22252a; --get: #4cc38a; --post: #7ab0ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.55;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "PingFang SC", "Noto Sans CJK SC",
  "Microsoft YaHei", sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { margin: 0 0 .25rem; font-size: 1.9rem; letter-spacing: -.02em; }
h2 { margin: 2.5rem 0 .25rem; font-size: 1.2rem; }
p { margin: .4rem 0; } a { color: var(--post); } .soft { color: var(--soft); }
details { margin: .6rem 0; border: 1px solid var(--line); border-radius: .6rem;
  background: var(--card); }
summary { display: flex; gap: .75rem; align-items: baseline; padding: .7rem 1rem; cursor: pointer;
  list-style: none; flex-wrap: wrap; } summary::-webkit-details-marker { display: none; }
summary:focus-visible { outline: 2px solid var(--post); border-radius: .6rem; }
.method { font: 600 .75rem/1 ui-monospace, Menlo, Consolas, monospace; letter-spacing: .05em; }
.get { color: var(--get); } .post { color: var(--post); }
code, pre { font: .875rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
.inside { padding: 0 1rem 1rem; border-top: 1px solid var(--line); }
pre { margin: .4rem 0 .8rem; padding: .75rem .9rem; overflow-x: auto; border-radius: .4rem;
  background: var(--code); }
table { width: 100%; border-collapse: collapse; margin: .4rem 0 .8rem; font-size: .925rem; }
th, td { padding: .35rem .6rem .35rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); } th { color: var(--soft); font-weight: 500; }
h3 { margin: .9rem 0 .2rem; font-size: .8rem; color: var(--soft); font-weight: 600;
  text-transform: uppercase; letter-spacing: .06em; }
@media (max-width: 40rem) { .parameters tr { display: grid; grid-template-columns: 2fr 1fr 1fr;
    border-bottom: 1px solid var(--line); }
  .parameters :is(th, td) { border: 0; }
  .parameters :is(th, td):last-child { grid-column: 1 / -1; padding-top: 0; } }
"""

_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""What a browser may do with the page: show it."""

_ALL, _ALL_TEXT = marked("Every request"), marked("may have these headers.")
_OWN_TAGS = ("events", "operations")
"""Of operations that no definition makes: all that is said of them is the page's own."""
_API_VERSION = marked("API version")
_TRY, _REPLY, _OTHERS = marked("Try it"), marked("Reply"), marked("Other replies")
_HEADINGS = (marked("Parameter"), marked("Type"), marked("Required"))
_YES, _NO, _IN_BODY = marked("yes"), marked("no"), marked("in the body")
_VERSION = marked("Version")
_TITLES = {
    "capabilities": marked("Capabilities"),
    "batches": marked("Batches"),
    "views": marked("Views"),
    "events": marked("Events"),
    "operations": marked("Operations"),
}


def render(description: Mapping[str, Any], url: str, *, keys: bool, language: str = "en") -> str:
    """Return the page.

    Its own words are in the reader's language; what the definitions say stays as it is.

    Parameters
    ----------
    description : mapping
        What ``openapi.describe`` returned.
    url : str
        Where the gateway answers, for the curl examples.
    keys : bool
        Whether callers need a key.
    language : str
        ``en`` or ``zh_CN``.
    """
    info = description["info"]
    page = _Page(url, keys, partial(translate, chosen=language))
    sections = [page.section(tag, description) for tag in description["tags"]]
    return (
        f'<!doctype html>\n<html lang="{language.replace("_", "-")}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} · API</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escape(info['title'])}</h1>"
        f'<p class="soft">{page.say(info["description"])} '
        f"{page.say(_API_VERSION)} {escape(info['version'])} · "
        f"Feilun {escape(info['x-feilun'])} · "
        '<a href="/openapi.json">openapi.json</a> · <a href="/status">status</a></p>'
        f"{''.join(sections)}{page.headers(description)}</main></body></html>\n"
    )


def curl(method: str, path: str, operation: Mapping[str, Any], url: str, *, keys: bool) -> str:
    """Return the command that sends an operation's example."""
    command = """curl -H "Authorization: Bearer $FEILUN_KEY\"""" if keys else "curl"
    return f"{command} {_request(method, path, operation, url)}"


class _Page:
    """Writes the parts of the page in one language."""

    def __init__(self, url: str, keys: bool, speak: Callable[[str], str]) -> None:
        self._url = url
        self._keys = keys
        self._speak = speak

    def say(self, text: str) -> str:
        """Return one of the page's own texts, translated and escaped."""
        return escape(self._speak(text))

    def section(self, tag: Mapping[str, str], description: Mapping[str, Any]) -> str:
        """Return the operations of one kind."""
        operations = [
            self._operation(method, path, operation)
            for path, item in description["paths"].items()
            for method, operation in item.items()
            if tag["name"] in operation["tags"]
        ]
        if not operations:
            return ""
        return (
            f"<section><h2>{self.say(_TITLES[tag['name']])}</h2>"
            f'<p class="soft">{self.say(tag["description"])}</p>{"".join(operations)}</section>'
        )

    def headers(self, description: Mapping[str, Any]) -> str:
        """Return the headers that requests may have: once, for they share them."""
        found = {
            parameter["name"]: parameter
            for item in description["paths"].values()
            for operation in item.values()
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "header"
        }
        if not found:
            return ""
        rows = "".join(
            f"<tr><td><code>{escape(name)}</code></td><td>{self.say(each['description'])}</td></tr>"
            for name, each in found.items()
        )
        return (
            f'<section><h2>{self.say(_ALL)}</h2><p class="soft">{self.say(_ALL_TEXT)}</p>'
            f"<table>{rows}</table></section>"
        )

    def _operation(self, method: str, path: str, operation: Mapping[str, Any]) -> str:
        own = operation["tags"][0] in _OWN_TAGS
        speak = self._speak if own else str
        parts = [
            f"<p>{self.say(line) if line == EACH_ALONE else escape(line)}</p>"
            for line in speak(operation.get("description", "")).splitlines()
            if line.strip()
        ]
        parts.append(self._parameters(operation))
        command = curl(method, path, operation, self._url, keys=self._keys)
        parts.append(f"<h3>{self.say(_TRY)}</h3><pre>{escape(command)}</pre>")
        for kind, media in operation["responses"]["200"]["content"].items():
            example = media["example"]
            shown = json.dumps(example, indent=2, ensure_ascii=False) if "json" in kind else example
            parts.append(f"<h3>{self.say(_REPLY)}</h3><pre>{escape(shown)}</pre>")
        parts.append(self._errors(operation))
        summary = speak(operation["summary"].removeprefix(MANY))  # the section's heading says it
        return (
            f'<details><summary><span class="method {method}">{method.upper()}</span>'
            f'<code>{escape(path)}</code><span class="soft">{escape(summary)}'
            f'</span></summary><div class="inside">{"".join(parts)}</div></details>'
        )

    def _parameters(self, operation: Mapping[str, Any]) -> str:
        rows = [
            (p["name"], p["schema"], p["required"], p.get("description", ""))
            for p in operation.get("parameters", ())
            if p["in"] == "query"
        ]
        for media in operation.get("requestBody", {}).get("content", {}).values():
            required = media["schema"].get("required", ())
            rows = [
                (name, schema, name in required, _IN_BODY)
                for name, schema in media["schema"].get("properties", {}).items()
            ] + rows
        if not rows:
            return ""
        lines = [
            f"<tr><td><code>{escape(name)}</code></td><td>{escape(_type(schema))}</td>"
            f"<td>{self._needed(schema, required)}</td><td>{self.say(text)}</td></tr>"
            for name, schema, required, text in rows
        ]
        head = "".join(f"<th>{self.say(word)}</th>" for word in _HEADINGS)
        return f'<table class="parameters"><tr>{head}<th></th></tr>{"".join(lines)}</table>'

    def _needed(self, schema: Mapping[str, Any], required: bool) -> str:
        if required:
            return self.say(_YES)
        default = f", {json.dumps(schema['default'])}" if "default" in schema else ""
        return self.say(_NO) + escape(default)

    def _errors(self, operation: Mapping[str, Any]) -> str:
        rows = [
            f"<tr><td><code>{escape(status)}</code></td><td>{self.say(reply['description'])}</td>"
            "</tr>"
            for status, reply in sorted(operation["responses"].items())
            if status != "200"
        ]
        version = operation.get("x-feilun-version")
        said = f'<p class="soft">{self.say(_VERSION)} {escape(version)}</p>' if version else ""
        return f"<h3>{self.say(_OTHERS)}</h3><table>{''.join(rows)}</table>{said}"


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if schema.get("type") == "array" and schema.get("items"):
        return f"list of {_type(schema['items'])}"
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    return str(schema.get("type", "any"))


def _request(method: str, path: str, operation: Mapping[str, Any], url: str) -> str:
    if method == "get":
        pairs = [
            (p["name"], str(value).lower() if isinstance(value, bool) else value)
            for p in operation.get("parameters", ())
            if "example" in p
            for value in (p["example"] if isinstance(p["example"], list) else [p["example"]])
        ]
        target = f"{url}{path}?{urlencode(pairs)}" if pairs else f"{url}{path}"
        return shlex.quote(target)
    (media,) = operation["requestBody"]["content"].values()
    body = json.dumps(media["example"], ensure_ascii=False)
    return (
        f"{shlex.quote(url + path)} -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(body)}"
    )
