"""The `antiphon` command: one small file a command.

What a command finds goes to stdout and nothing else does; progress, warnings and errors go to stderr. An error that a
user can meet is one line and exit code 1; `antiphon --debug ...` shows where it came from. Heavy imports happen inside
the commands, so that `antiphon --help` is quick.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated

import typer

from antiphon import __version__
from antiphon.cli import bench, chat, data, duplex, evaluate, fetch, hear, info, say, serve, talk, tokenize, train
from antiphon.errors import AntiphonError

app = typer.Typer(
    name="antiphon",
    help="Talk to a model that hears, thinks and speaks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("talk")(talk.talk)
app.command("hear")(hear.hear)
app.command("say")(say.say)
app.command("chat")(chat.chat)
app.command("duplex")(duplex.duplex)
app.command("serve")(serve.serve)
app.command("fetch")(fetch.fetch)
app.command("train")(train.train)
app.command("tokenize")(tokenize.tokenize)
app.command("detokenize")(tokenize.detokenize)
app.command("info")(info.info)
app.add_typer(data.app, name="data")
app.add_typer(evaluate.app, name="eval")
app.add_typer(bench.app, name="bench")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from, and every log line.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    if debug:
        os.environ["ANTIPHON_DEBUG"] = "1"
    level = logging.INFO if debug else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    if not debug:
        warnings.filterwarnings("ignore")  # of libraries, about themselves
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def main() -> None:
    """Runs the command line; the program's entry point."""
    try:
        app()
    except AntiphonError as error:
        if os.environ.get("ANTIPHON_DEBUG"):
            raise
        sys.exit(_complain(str(error)))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone
        sys.stdout = None
        sys.exit(1)
    except Exception as error:
        if os.environ.get("ANTIPHON_DEBUG"):
            raise
        sys.exit(
            _complain(
                f"unexpected {type(error).__name__}: {error}. Run `antiphon --debug ...` to see where, and report it."
            )
        )


def _complain(message: str) -> int:
    print(f"antiphon: {' '.join(message.split())}", file=sys.stderr)
    return 1
