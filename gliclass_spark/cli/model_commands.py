"""Commands of the model registry: models, register, promote, rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gliclass_spark.cli.console import console
from gliclass_spark.cli.output.json_output import AsJson, print_json
from gliclass_spark.config.model_uri import CHALLENGER, MODEL_URI_FORMS

# MLflow and torch take seconds to import: each command imports what it needs.
if TYPE_CHECKING:
    from gliclass_spark.checkpoints.registry import ModelVersion

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
def list_models(name: Name, registry: RegistryUri = None, as_json: AsJson = False) -> None:
    """List the versions of a registered model, with their aliases: champion, challenger, previous.

    A pipeline with "model: models:/NAME@champion" tags with the version that is the champion when its run starts.
    """
    from gliclass_spark.checkpoints.registry import Registry
    from gliclass_spark.cli.output.model_output import show_versions, versions_document

    versions = Registry(registry).versions(name)
    if as_json:
        print_json(versions_document(name, versions))
    else:
        show_versions(console, name, versions)


@app.command()
def register(
    name: Name,
    model: Annotated[str, typer.Argument(help=f"{MODEL_URI_FORMS}.", metavar="MODEL")],
    registry: RegistryUri = None,
) -> None:
    """Register a checkpoint as a new version. The first version of a model becomes its champion.

    gliclass-spark register mail embedded

    A checkpoint that is registered already keeps its version: an interrupted command can be repeated.
    """
    from tempfile import TemporaryDirectory

    from gliclass_spark.checkpoints import embedded_files
    from gliclass_spark.checkpoints.registry import Registry
    from gliclass_spark.checkpoints.uri import resolve_model
    from gliclass_spark.model.checkpoint import load, save

    models, ref = Registry(registry), resolve_model(model, registry=registry)
    checkpoint = load(ref)  # a checkpoint that can't be loaded is not registered
    with TemporaryDirectory() as temporary:
        folder = ref.folder  # uploaded byte for byte, so that the digest stays
        if model == embedded_files.NAME:  # its files are in two packages
            folder = save(checkpoint.model, checkpoint.tokenizer, temporary)
        version = models.registered(name, folder)
        if version is None:
            with models.run(name, f"register {model}", {"model": model}) as tracked:
                version = models.register(name, folder, tracked.run_id)
    models.promote_first(name)
    version = models.version(name, str(version.number))
    aliases = f", the {' and '.join(version.aliases)}" if version.aliases else ""
    _print_version(version, aliases)


@app.command()
def promote(
    name: Name,
    version: Annotated[str, typer.Argument(help='A number, as "3", or an alias.', metavar="VERSION")] = CHALLENGER,
    registry: RegistryUri = None,
) -> None:
    """Make a version the champion: runs that start from now on tag with it. "rollback" undoes it.

    The former champion becomes the previous version. An interrupted command can be repeated.
    """
    from gliclass_spark.checkpoints.registry import Registry

    _print_version(Registry(registry).promote(name, version), " is the champion")


@app.command()
def rollback(
    name: Name,
    version: Annotated[
        str | None,
        typer.Argument(
            help="The version to go back to. Default: the champion before the last promotion.", metavar="VERSION"
        ),
    ] = None,
    registry: RegistryUri = None,
) -> None:
    """Undo the last promotion: the former champion is the champion again, and the promoted version the previous one.

    An interrupted command can be repeated: a second rollback changes nothing. "promote" undoes a rollback.
    """
    from gliclass_spark.checkpoints.registry import Registry

    _print_version(Registry(registry).rollback(name, version), " is the champion again")


def _print_version(version: ModelVersion, status: str) -> None:
    console.print(f"{version.uri}{status}; digest {version.digest[:12]}", highlight=False, markup=False)
