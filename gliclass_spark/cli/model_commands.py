"""The commands that say which version of a registered model is used, and that change it."""

from __future__ import annotations

from typing import Annotated

import typer

from gliclass_spark.cli.console import console
from gliclass_spark.config.model_uri import CHAMPION, MODEL_ADDRESSES

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="The model's name in the registry.", metavar="NAME")]
RegistryUri = Annotated[
    str | None,
    typer.Option(
        "--registry",
        help="An MLflow tracking URI, as http://host:5000 or sqlite:///mlflow.db. "
        "Default: MLFLOW_TRACKING_URI, else mlflow.db in this folder.",
    ),
]


@app.command(name="models")
def list_models(name: Name, registry: RegistryUri = None) -> None:
    """List the versions of a registered model: which one is the champion, the challenger, the previous.

    A pipeline with "model: models:/NAME@champion" tags with whatever version is the champion when its run begins.
    """
    from gliclass_spark.checkpoints.registry import Registry
    from gliclass_spark.cli.output.model_output import show_versions

    show_versions(console, name, Registry(registry).versions(name))


@app.command()
def register(
    name: Name,
    model: Annotated[str, typer.Argument(help=f"{MODEL_ADDRESSES}.", metavar="MODEL")],
    registry: RegistryUri = None,
) -> None:
    """Put a checkpoint into the registry, as a new version. The first version of a model becomes its champion.

    gliclass-spark register mail embedded
    """
    from tempfile import TemporaryDirectory

    from gliclass_spark.checkpoints import embedded_files
    from gliclass_spark.checkpoints.registry import Registry
    from gliclass_spark.checkpoints.uri import resolve_model
    from gliclass_spark.model.checkpoint import load, save

    found, ref = Registry(registry), resolve_model(model)
    checkpoint = load(ref)  # what can't be loaded here is no model for others
    with TemporaryDirectory() as folder, found.run(name, f"register {model}", {"model": model}) as tracked:
        # The embedded model's files lie in two packages. Others stay to the byte what they are: their digest, too.
        whole = save(checkpoint.model, checkpoint.tokenizer, folder) if model == embedded_files.NAME else ref.folder
        version = found.register(name, whole, tracked.run_id)
    if not any(CHAMPION in each.aliases for each in found.versions(name)):
        version = found.promote(name, str(version.number))
    known_as = f", the {' and '.join(version.aliases)}" if version.aliases else ""
    console.print(f"{version.address}{known_as}; digest {version.digest[:12]}", highlight=False, markup=False)


@app.command()
def promote(
    name: Name,
    which: Annotated[str, typer.Argument(help='A number, as "3", or an alias.', metavar="WHICH")] = "challenger",
    registry: RegistryUri = None,
) -> None:
    """Make a version the champion: runs that begin from now on tag with it. "rollback" takes it back.

    The champion until now becomes the previous one. Was the command interrupted, give it again.
    """
    from gliclass_spark.checkpoints.registry import Registry

    chosen = Registry(registry).promote(name, which)
    console.print(f"{chosen.address} is the champion; digest {chosen.digest[:12]}", highlight=False, markup=False)


@app.command()
def rollback(name: Name, registry: RegistryUri = None) -> None:
    """Take the last promotion back: the previous version is the champion again. Given again, it takes itself back."""
    from gliclass_spark.checkpoints.registry import Registry

    back = Registry(registry).rollback(name)
    console.print(f"{back.address} is the champion again; digest {back.digest[:12]}", highlight=False, markup=False)
