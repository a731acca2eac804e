"""The pages of docs/ that follow from the code: modules.md, providers.md and errors.md.

python docs/generate.py --write     writes them anew (make docs)
python docs/generate.py --check     exits 1 and names those that are out of date (make check)
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from credentials.providers.catalogue import BUILT_IN, Providers
from credentials.providers.description import describe, duration, facts
from flow8_core import errors
from flow8_core.errors import Flow8Error
from flow8_modules.catalogue import Catalogue, ModuleSettings

FOLDER = Path(__file__).parent
NOTICE = "<!-- Made by docs/generate.py: change the code, then `make docs`. -->"
DOORS = {
    "step": "the flow's author changes the step",
    "link": "the person who connected the account acts",
    "app": "the operator mends the OAuth2 application",
    "provider": "wait for the vendor",
    "us": "ours to mend",
}


def pages() -> dict[str, str]:
    """File name -> content."""
    found = {"modules.md": _modules(), "providers.md": _providers(), "errors.md": _errors()}
    return {name: "\n".join(lines) + "\n" for name, lines in found.items()}


def main(arguments: list[str]) -> int:
    """`--write` or `--check`; 0 where all is well."""
    stale = [name for name, text in pages().items() if not _is(FOLDER / name, text)]
    if arguments == ["--write"]:
        for name, text in pages().items():
            (FOLDER / name).write_text(text, encoding="utf-8")
        return 0
    for name in stale:
        sys.stderr.write(f"docs/{name} is out of date: run `make docs`\n")
    return 1 if stale else 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _errors() -> Iterator[str]:
    yield "# Errors"
    yield ""
    yield NOTICE
    yield ""
    yield "Every failure of a step, a command or a request carries one of these codes. `retryable` ones may be tried"
    yield "again: as often as the step's `retry` says, and patiently where somebody only asked for patience. For"
    yield "`reconnect` ones the account has to be connected again; a step with `invalid_grant` waits for that."
    leaves = [cls for cls in vars(errors).values() if inspect.isclass(cls) and issubclass(cls, Flow8Error)]
    for door, meaning in DOORS.items():
        yield from (
            "",
            f"## Door `{door}`: {meaning}",
            "",
            "| code | when | retryable | reconnect |",
            "|---|---|---|---|",
        )
        for cls in leaves:
            if cls.door == door and "code" in vars(cls) and cls is not Flow8Error:
                first = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
                yield f"| `{cls.code}` | {first} | {_tick(cls.retryable)} | {_tick(cls.reconnect)} |"


def _modules() -> Iterator[str]:
    catalogue = Catalogue(ModuleSettings(third_parties=False))
    yield "# Modules"
    yield ""
    yield NOTICE
    yield ""
    yield "What a step's `module_ref` may name. *Effect* says what repeating a call does: `read` nothing, `repeatable`"
    yield "the same end state, `keyed` the vendor recognises the repeat, `once` it happens twice."
    for ref in catalogue.refs():
        yield ""
        yield from _module(catalogue.describe(ref))


def _providers() -> Iterator[str]:
    providers = Providers()
    yield "# Providers"
    yield ""
    yield NOTICE
    yield ""
    yield "The services that can be connected as they are; `flow8 providers` lists them together with your own. Any"
    yield "other OAuth2 or OpenID Connect server is a matter of configuration ([configuration.md](configuration.md)),"
    yield "and installed packages may declare more (entry points `flow8.providers`, each a `Provider`)."
    yield ""
    yield "| service | access token | a used refresh token | ends unused after | ends anyway after | given back |"
    yield "|---|---|---|---|---|---|"
    found = [describe(providers.get(name)) for name in BUILT_IN]
    for one in found:
        ends = (duration(one["idle_s"]) or "never", duration(one["grant_lifetime_s"]) or "never")
        yield (
            f"| {one['title']} (`{one['service']}`) | {duration(one['lifetime_s'])} | `{one['replay']}` | "
            f"{ends[0]} | {ends[1]} | {'yes' if one['revocation'] else 'no'} |"
        )
    for one in found:
        module = importlib.import_module(BUILT_IN[one["service"]])
        prose = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
        yield from ("", f"## {one['title']}", "", *textwrap.wrap(prose[2], 120), "", "| | |", "|---|---|")
        yield from (f"| {what} | {_cell(words)} |" for what, words in facts(one))
        yield from ("", f"Source: {prose[0].partition('Source: ')[2].replace(chr(10), ' ')}")


def _module(described: Mapping[str, Any]) -> Iterator[str]:
    title, _, rest = described["description"].partition("\n\n")
    yield f"## `{described['ref']}`, version {described['version']}"
    yield ""
    yield title
    if rest:
        yield from ("", rest)
    yield ""
    yield f"- needs {_needs(described['needs'])}"
    yield f"- effect: `{described['effect']}`"
    for heading, schema in (("input", described["input"]), ("output", described["output"])):
        required = schema.get("required", ())
        yield from ("", f"| {heading} | type | meaning |", "|---|---|---|")
        for name, field in schema["properties"].items():
            mark = " (required)" if heading == "input" and name in required else ""
            yield f"| `{name}`{mark} | {_type(field)} | {_cell(field.get('description', ''))} |"
    yield from ("", "```json", json.dumps(described["args_example"], indent=2, ensure_ascii=False), "```")


def _needs(needs: list[dict[str, Any]]) -> str:
    return ", and ".join(_need(need) for need in needs) or "nothing"


def _need(need: Mapping[str, Any]) -> str:
    if "one_of" in need:
        text = " or ".join(_need(one) for one in need["one_of"])
    elif "link" in need:
        scopes = ", ".join(f"`{scope}`" for scope in need["scopes"])
        text = "a link of any provider" if need["link"] == "any" else f"a link of {need['link']}"
        text += f" with {scopes}" if scopes else ""
    else:
        text = f"a component of kind `{need['component']}`" + (f" ({need['provider']})" if need["provider"] else "")
    return f"{text} (optional)" if need.get("optional") else text


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    options = [_type(option) for option in field.get("anyOf", ()) if option.get("type") != "null"]
    if options:
        return " or ".join(options)
    if "$ref" in field:
        return "object"
    return str(field.get("type", "any"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _tick(value: bool) -> str:
    return "yes" if value else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
