"""`python -m flow8_lab`: run the laboratory until Ctrl-C, SIGTERM or, with --die-with-parent, the parent's end."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from flow8_lab.server import Options, serve


def main() -> None:
    """Read the options, serve, print the description."""
    parser = argparse.ArgumentParser(prog="flow8_lab", description="Loopback vendors with their real rules.")
    parser.add_argument("--json", action="store_true", help="print one JSON line, then serve")
    parser.add_argument("--port-base", type=int, default=0, help="first of seventeen ports (default: free ones)")
    parser.add_argument("--auto-approve", action="store_true", help="consent pages approve by themselves")
    parser.add_argument("--bucket", default="flow8-artifacts", help="S3 bucket that exists from the start")
    parser.add_argument("--s3", choices=["eager", "on-demand", "off"], default="eager", help="when to start S3")
    parser.add_argument("--no-s3", action="store_const", const="off", dest="s3", help="the same as --s3 off")
    parser.add_argument("--die-with-parent", action="store_true", help="end when the parent process ends")
    given = parser.parse_args()
    options = Options(
        port_base=given.port_base,
        auto_approve=given.auto_approve,
        bucket=given.bucket,
        s3=given.s3,
        die_with_parent=given.die_with_parent,
    )
    serve(options, announce=_print_json if given.json else _print_table)


def _print_json(description: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(description) + "\n")
    sys.stdout.flush()


def _print_table(description: dict[str, Any]) -> None:
    lines = [f"{name:10} {next(iter(urls.values()))}" for name, urls in description["services"].items()]
    lines += [f"{'control':10} {description['control_url']}", f"{'CA':10} {description['ca_file']}"]
    sys.stdout.write("\n".join(["The laboratory is open. Ctrl-C closes it.", *lines]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
