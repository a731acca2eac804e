"""The one page that a person sees who comes back from a vendor. It holds nothing of the request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape

from fastapi.responses import HTMLResponse

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title} · flow8</title>
<style>
  :root {{ color-scheme: light dark; --ink: #17202e; --soft: #566176; --paper: #fff; --line: #e3e8f0; --inset: #f5f7fb;
          --ground: radial-gradient(60rem 34rem at 85% -10%, #dfe8ff 0, #dfe8ff00 70%),
                    radial-gradient(50rem 30rem at 0% 110%, {tint} 0, transparent 65%), #f2f5fa; --mark: {colour} }}
  @media (prefers-color-scheme: dark) {{
    :root {{ --ink: #e9eef6; --soft: #a2aec1; --paper: #1a212d; --line: #2c3646; --inset: #222b39;
            --ground: radial-gradient(60rem 34rem at 85% -10%, #24345c 0, #24345c00 70%), #10151d; --mark: {bright} }}
  }}
  * {{ box-sizing: border-box }}
  body {{ margin: 0; min-height: 100vh; padding: 1.25rem; display: grid; place-items: center; background: var(--ground);
         color: var(--ink); font: 17px/1.55 system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif }}
  main {{ width: min(31rem, 100%); padding: 2.75rem 2.75rem 1.75rem; border: 1px solid var(--line); border-radius: 18px;
         background: var(--paper); box-shadow: 0 1px 2px #17202e0f, 0 18px 48px -12px #17202e29; text-align: center }}
  svg {{ display: block; width: 4.25rem; height: 4.25rem; margin: 0 auto 1.4rem; color: var(--mark) }}
  .halo {{ fill: currentColor; opacity: .13 }}
  h1 {{ margin: 0 0 .45rem; font-size: 1.5rem; font-weight: 650; line-height: 1.25; letter-spacing: -.012em }}
  p {{ margin: 0; color: var(--soft); overflow-wrap: anywhere; text-wrap: pretty }}
  .note {{ margin-top: .7rem; padding: .85rem 1.05rem; border-radius: 11px; background: var(--inset); text-align: left;
          font-size: .93rem; line-height: 1.5 }}
  p:not(.note) + .note {{ margin-top: 1.6rem }}
  footer {{ margin-top: 2.1rem; padding-top: 1.15rem; border-top: 1px solid var(--line); color: var(--soft);
           font-size: .82rem; font-weight: 600; letter-spacing: .04em }}
  @media (max-width: 30rem) {{ main {{ padding: 2.1rem 1.5rem 1.3rem }} h1 {{ font-size: 1.3rem }} }}
  @media (prefers-reduced-motion: no-preference) {{
    main {{ animation: come .35s ease-out both }}
    @keyframes come {{ from {{ opacity: 0; transform: translateY(8px) }} }}
  }}
</style>
</head>
<body><main>
<svg viewBox="0 0 48 48" fill="none" stroke="currentColor" stroke-width="3" stroke-linecap="round"
 stroke-linejoin="round" aria-hidden="true"><circle class="halo" cx="24" cy="24" r="23" stroke="none"/>
<path d="{mark}"/></svg>
<h1>{title}</h1><p>{text}</p>{notes}<footer>flow8</footer>
</main></body></html>
"""


@dataclass(frozen=True)
class _Look:
    """The colours on light and on dark, and what is drawn."""

    colour: str
    bright: str
    tint: str
    mark: str


WELL = _Look("#14924a", "#4ade80", "#dcf5e5", "m15 24.8 6.2 6.2L33.4 18")
ILL = _Look("#c9500f", "#fb923c", "#ffe9d9", "M24 14.5v11.5M24 33v.2")


def page(title: str, text: str, *, well: bool, status: int = 200, notes: Sequence[str] = ()) -> HTMLResponse:
    """The page. All its words are ours, never a visitor's or a vendor's, and escaped all the same."""
    look = WELL if well else ILL
    shown = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    return HTMLResponse(
        PAGE.format(title=escape(title), text=escape(text), notes=shown, **asdict(look)), status_code=status
    )
