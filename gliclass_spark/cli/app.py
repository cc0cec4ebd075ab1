"""The command line, gliclass-spark: every command and the exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from gliclass_spark import __version__
from gliclass_spark.cli import (
    classify_command,
    feedback_commands,
    model_commands,
    pipeline_commands,
    retrain_commands,
    retrain_demo,
    run_commands,
    shadow_command,
    training_commands,
)
from gliclass_spark.cli.console import tolerate_encodings
from gliclass_spark.cli.options.environment_options import CommandGroup
from gliclass_spark.errors import ConfigError, GliclassSparkError
from gliclass_spark.inference.openmp import limit_spinning

app = typer.Typer(
    help="Tag, filter and route the text of a data lake with GLiClass, a zero-shot classifier.\n\n"
    "Start with `gliclass-spark demo`, or try labels on a text: "
    '`gliclass-spark classify --labels "spam,invoice" "Invoice 42 is attached."`',
    no_args_is_help=True,
    cls=CommandGroup,
    epilog="Every option is also read from an environment variable: `plan --sample` from GLICLASS_SPARK_PLAN_SAMPLE; "
    "--conf, --registry and --verbose of all commands from GLICLASS_SPARK_CONF and so on. NO_COLOR turns colors off.",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
_PANELS = {
    "Run a pipeline": (run_commands, pipeline_commands),
    "Labels and models": (classify_command, training_commands, model_commands),
    "Feedback and retraining": (feedback_commands, retrain_commands, shadow_command, retrain_demo),
}
for _panel, _modules in _PANELS.items():
    for _module in _modules:
        for _command in _module.app.registered_commands:
            _command.rich_help_panel = _panel
        app.add_typer(_module.app)


def _print_version(is_given: bool) -> None:
    if is_given:
        print(f"gliclass-spark {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options that stand before a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 for success, 1 for a run that was stopped, 2 for invalid input, 141 if
    whoever read its output has closed the pipe.
    """
    limit_spinning()
    tolerate_encodings()
    try:
        app(args=None if argv is None else list(argv), prog_name="gliclass-spark")
    except GliclassSparkError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # of a file that the command names, such as --out
        if error.filename is None:
            raise
        print(
            f"error: {error.filename}: {error.strerror}; check the path, and who may read or write it", file=sys.stderr
        )
        return ConfigError.exit_code
    except SystemExit as exit_:  # typer raises it after success, --help and wrong arguments alike
        return exit_.code if isinstance(exit_.code, int) else 0
    return 0
