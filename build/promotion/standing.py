"""Which versions of an adapter stand where: MLflow's aliases decide, a tag on the versions repeats them.

Whoever builds reads the alias ``production``, which MLflow moves in one transaction. The tag `CHANNEL` is for who
searches and lists versions; it follows the aliases and decides nothing.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slipstream.build.model_versions import REGISTER, NoSuchModel

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PRODUCTION, ROLLBACK = "production", "rollback"
CHANNEL = "slipstream.channel"
"""Version tag: ``production``, ``rollback``, or not there."""


@dataclass(frozen=True)
class Standing:
    """Version behind each alias; None where the alias is not there."""

    production: str | None
    rollback: str | None


def standing(client: "MlflowClient", model: str) -> Standing:
    """Where ``model`` stands now.

    Raises:
        NoSuchModel: nothing is registered under that name.
    """
    from mlflow.exceptions import MlflowException

    try:
        aliases = client.get_registered_model(model).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise NoSuchModel(f"no model {model!r} is registered", f"{REGISTER} --name {model}") from error
    found = {alias: str(version) for alias, version in aliases.items()}
    return Standing(found.get(PRODUCTION), found.get(ROLLBACK))


def point(client: "MlflowClient", model: str, alias: str, version: str | None) -> None:
    """Let ``alias`` name ``version``, or nothing; to do so again changes nothing."""
    if version is None:
        client.delete_registered_model_alias(model, alias)
    else:
        client.set_registered_model_alias(model, alias, version)


def exists(client: "MlflowClient", model: str, version: str) -> bool:
    """Whether ``version`` is there: MLflow drops a deleted one's aliases with it."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_model_version(model, version)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def follow_aliases(client: "MlflowClient", model: str) -> None:
    """Set `CHANNEL` on the versions that the aliases name and remove it from every other."""
    now = standing(client, model)
    wanted = {version: name for name, version in ((ROLLBACK, now.rollback), (PRODUCTION, now.production)) if version}
    for version in _tagged(client, model):
        if wanted.get(str(version.version)) is None:
            client.delete_model_version_tag(model, str(version.version), CHANNEL)
    for number, channel in wanted.items():
        client.set_model_version_tag(model, number, CHANNEL, channel)


def _tagged(client: "MlflowClient", model: str) -> list[Any]:
    escaped = model.replace("'", "''")
    return [
        version
        for channel in (PRODUCTION, ROLLBACK)
        for version in client.search_model_versions(f"name='{escaped}' and tags.`{CHANNEL}`='{channel}'")
    ]


__all__ = ["CHANNEL", "PRODUCTION", "ROLLBACK", "Standing", "exists", "follow_aliases", "point", "standing"]
