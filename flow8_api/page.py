"""The one page that a person sees who comes back from a vendor. It holds nothing of the request."""

from __future__ import annotations

from html import escape

from fastapi.responses import HTMLResponse

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title} · flow8</title>
<style>
  :root {{ color-scheme: light dark; --ink: #1c2430; --soft: #566072; --paper: #fff; --ground: #f3f5f8 }}
  @media (prefers-color-scheme: dark) {{
    :root {{ --ink: #e8ecf2; --soft: #a3adbb; --paper: #1b212a; --ground: #12161c }}
  }}
  body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--ground);
         color: var(--ink); font: 17px/1.5 system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif }}
  main {{ box-sizing: border-box; width: min(30rem, 100vw - 2rem); padding: 2.5rem 2.75rem; border-radius: 14px;
         background: var(--paper); box-shadow: 0 1px 2px #1c24301a, 0 12px 36px #1c243014 }}
  svg {{ display: block; width: 2.75rem; height: 2.75rem; margin-bottom: 1.1rem }}
  h1 {{ margin: 0 0 .4rem; font-size: 1.35rem; line-height: 1.3 }}
  p {{ margin: 0; color: var(--soft); overflow-wrap: anywhere }}
  small {{ display: block; margin-top: 1.9rem; color: var(--soft); font-size: .8rem; letter-spacing: .02em }}
</style>
</head>
<body><main>
<svg viewBox="0 0 24 24" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"
 aria-hidden="true"><circle cx="12" cy="12" r="10"/><path d="{mark}"/></svg>
<h1>{title}</h1><p>{text}</p><small>flow8</small>
</main></body></html>
"""
WELL, ILL = ("#16a34a", "m7.5 12.3 3 3 6-6.3"), ("#d9480f", "M12 7v6M12 16.6v.1")


def page(title: str, text: str, *, well: bool, status: int = 200) -> HTMLResponse:
    """The page. `title` and `text` are words of ours, never a visitor's or a vendor's, and escaped all the same."""
    colour, mark = WELL if well else ILL
    html = PAGE.format(title=escape(title), text=escape(text), colour=colour, mark=mark)
    return HTMLResponse(html, status_code=status)
