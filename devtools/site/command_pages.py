"""The page of the command line, printed from the commands themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

import typer

from gliclass_spark.cli.app import app

_HEAD = """# Commands

`gliclass-spark COMMAND --help` prints the same in a terminal. The [runbook](../runbook.md#exit-codes) explains the exit
codes. `jobs/tag.py`, `jobs/filter.py`, `jobs/route.py` and `jobs/retrain.py` are the commands of these names for
spark-submit, with the same arguments. [Use it in scripts](../howto/scripts.md) has JSON, pipes and metrics.

Every option is also read from an environment variable, named by the command and the option: `plan --sample 500` is
`GLICLASS_SPARK_PLAN_SAMPLE=500`, `run --json` is `GLICLASS_SPARK_RUN_JSON=1`. `--conf`, `--registry` and `--verbose`
are also read from `GLICLASS_SPARK_CONF`, `GLICLASS_SPARK_REGISTRY` and `GLICLASS_SPARK_VERBOSE`, for all commands. The
command line goes first.

`gliclass-spark --version` prints the version, `gliclass-spark --install-completion` teaches the shell (bash, zsh, fish,
PowerShell) to complete commands and options.
"""
_CODE = "gliclass-spark "


def page() -> str:
    """Return the page in Markdown: every command with its description, arguments and options."""
    group: Any = typer.main.get_command(app)
    return "\n".join([_HEAD, *(_section(name, command) for name, command in group.commands.items())])


def _section(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    shown = " ".join(_argument(each) for each in arguments)
    options = [each for each in command.params if each not in arguments]
    usage = f"gliclass-spark {name} {shown} [OPTIONS]".replace("  ", " ")
    parts = [f"## {name}", f"```text\n{usage}\n```", _described(command.help or "")]
    if arguments:
        parts.append(_table(("argument", "meaning"), [(f"`{_argument(each)}`", _meaning(each)) for each in arguments]))
    if options:
        rows = [(_flags(each), _kind(each), _default(each), _meaning(each)) for each in options]
        parts.append(_table(("option", "value", "default", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _described(text: str) -> str:
    """Return a docstring in Markdown: a line that is a command becomes a code block."""
    lines = [f"```text\n{line}\n```" if line.startswith(_CODE) else line for line in text.splitlines()]
    return "\n".join(lines)


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    shown = name.strip("[]") if parameter.required else f"[{name.strip('[]')}]"
    return f"{shown}..." if parameter.nargs == -1 else shown


def _flags(parameter: Any) -> str:
    return ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))


def _kind(parameter: Any) -> str:
    if parameter.is_flag:
        return ""
    kind = parameter.type_descriptor.annotation
    if get_origin(kind) is Literal:
        named = " or ".join(f"`{value}`" for value in get_args(kind))
    elif hasattr(kind, "__members__"):
        named = " or ".join(f"`{member.value}`" for member in kind)
    elif get_origin(kind) is list:
        named = "text, may be repeated"
    else:
        named = {"str": "text", "int": "whole number", "float": "number", "datetime": "time"}.get(
            _name(kind), _name(kind).lower()
        )
    low, high = parameter.min, parameter.max
    bounds = " to ".join(str(each) for each in (low, high) if each is not None)
    return f"{named}, {bounds}{'' if high is not None or low is None else ' or more'}" if bounds else named


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.is_flag:
        return "on" if parameter.default else "off"
    return "" if parameter.default is None else f"`{getattr(parameter.default, 'value', parameter.default)}`"


def _meaning(parameter: Any) -> str:
    return (parameter.help or "").replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
