"""The `flow8` command. Each subcommand has a file of its own; this one only gathers them."""

from __future__ import annotations

import typer

from flow8_cli import check, component, demo, doctor, keys, lab, link, modules, plays, run, serve, worker

app = typer.Typer(
    name="flow8",
    help="Talk to other companies' services from flow8: connect accounts, run flows, look after credentials.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local variables is a way for secrets to leave
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("check")(check.check)
app.command("plays")(plays.plays)
app.add_typer(link.app, name="link")
app.add_typer(component.app, name="component")
app.add_typer(keys.app, name="keys")
app.command("modules")(modules.modules)
app.command("lab")(lab.lab)
app.command("worker")(worker.worker)
app.command("serve")(serve.serve)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Entry point of the `flow8` command."""
    app()


if __name__ == "__main__":
    main()
