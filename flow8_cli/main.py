"""The `flow8` command. Each subcommand has a file of its own; this one only gathers them."""

from __future__ import annotations

import sys

import typer
from typer.exceptions import TyperException

from flow8_cli import (
    check,
    component,
    demo,
    doctor,
    keys,
    lab,
    link,
    link_refresh,
    modules,
    plays,
    providers,
    run,
    serve,
    worker,
)
from flow8_cli.helping import command, examples
from flow8_cli.output import Output
from flow8_cli.reporting import STOPPED, report, report_usage

app = typer.Typer(
    name="flow8",
    help="Talk to other companies' services from flow8: connect accounts, run flows, look after credentials.",
    epilog=examples(
        "flow8 demo                       see it all work, on this machine alone",
        "flow8 --install-completion       complete commands in your shell",
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local variables is a way for secrets to leave
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

command(app, "demo", *demo.EXAMPLES)(demo.demo)
command(app, "run", *run.EXAMPLES)(run.run)
command(app, "check", *check.EXAMPLES)(check.check)
command(app, "plays", *plays.EXAMPLES)(plays.plays)
command(link.app, "refresh", *link_refresh.EXAMPLES)(link_refresh.refresh)
app.add_typer(link.app, name="link")
app.add_typer(component.app, name="component")
app.add_typer(keys.app, name="keys")
command(app, "modules", *modules.EXAMPLES)(modules.modules)
command(app, "providers", *providers.EXAMPLES)(providers.providers)
command(app, "lab", *lab.EXAMPLES)(lab.lab)
command(app, "worker", *worker.EXAMPLES)(worker.worker)
command(app, "serve", *serve.EXAMPLES)(serve.serve)
command(app, "doctor", *doctor.EXAMPLES)(doctor.doctor)


def main() -> None:
    """Entry point of the `flow8` command."""
    sys.exit(_run())


def _run() -> int:
    """The exit code. Errors inside of a command are reported there; what is left here lies before or around it."""
    output = Output(as_json="--json" in sys.argv)
    try:
        return app(standalone_mode=False) or 0
    except TyperException as error:
        return report_usage(output, error)
    except typer.Abort:  # an end of input, or Ctrl-C, where something was asked
        output.say("Nothing was done.")
        return STOPPED
    except Exception as error:  # noqa: BLE001  # whatever it is, it ends here
        return report(output, error)


if __name__ == "__main__":
    main()
