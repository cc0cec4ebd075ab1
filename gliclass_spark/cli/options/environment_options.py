"""Options from environment variables: GLICLASS_SPARK_COMMAND_OPTION, and a few that hold for every command."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup, TyperOption

_PREFIX = "GLICLASS_SPARK"
# Options that mean the same for every command that has them.
_SHARED = {"--conf", "--registry", "--verbose"}


def variables(command: str, option: str) -> list[str]:
    """Return the variables that an option such as "--sample" is read from, the first that is set."""
    names = [f"{_PREFIX}_{command}_{option.removeprefix('--')}"]
    if option in _SHARED:
        names.append(f"{_PREFIX}_{option.removeprefix('--')}")
    return [name.upper().replace("-", "_") for name in names]


class CommandGroup(TyperGroup):
    """Commands whose options are also read from `variables`; --help names the rule, not each variable."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a name, or None."""
        command = super().get_command(ctx, cmd_name)
        for option in command.params if command is not None else ():
            if isinstance(option, TyperOption):
                option.envvar, option.show_envvar = variables(cmd_name, option.opts[0]), False
        return command
