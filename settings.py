"""Settings from the environment: where state lives, which services to use, which ports to bind."""

from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from slipstream import InputError


class SettingInvalid(InputError):
    """A setting in the environment has a value that cannot be."""


class Settings(BaseSettings):
    """Read from ``SLIPSTREAM_*`` variables, and from the names that Qdrant's and MLflow's users already set.

    ``Settings()`` reads the environment anew; there is no global instance, so tests pass their own.
    """

    model_config = SettingsConfigDict(
        env_prefix="SLIPSTREAM_", env_ignore_empty=True, frozen=True, extra="ignore", populate_by_name=True
    )

    home: Path = Field(default=Path("var"), description="Run state: registry, cache, bundles, index, reports.")
    host: str = Field(default="127.0.0.1", description="Address the facade binds.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port of the facade.")
    collection: str = Field(default="code", description="Collection that answers when a request names none.")
    min_confidence: float | None = Field(
        default=None, ge=0, le=1, description="Instead of the bundle's: how sure a search must be for an answer; 0 off."
    )
    triton_http_port: int = Field(default=8000, ge=0, le=65535)
    triton_grpc_port: int = Field(default=8001, ge=0, le=65535)
    triton_metrics_port: int = Field(default=8002, ge=0, le=65535)
    qdrant_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("qdrant_url", "SLIPSTREAM_QDRANT_URL", "QDRANT_URL"),
        description="Qdrant server to use instead of the embedded Qdrant Edge.",
    )
    qdrant_api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("qdrant_api_key", "SLIPSTREAM_QDRANT_API_KEY", "QDRANT_API_KEY")
    )
    mlflow_uri: str | None = Field(
        default=None,
        validation_alias=AliasChoices("mlflow_uri", "SLIPSTREAM_MLFLOW_URI", "MLFLOW_TRACKING_URI"),
        description="MLflow tracking and registry server; default is SQLite under `home`.",
    )

    verify_key: Path | None = Field(
        default=None, description="Public key (PEM) of who signs bundles; a bundle signed by another is not served."
    )
    require_signature: bool = Field(default=False, description="Serve no bundle that `verify_key` did not sign.")
    key_password: SecretStr | None = Field(default=None, description="Password of the private key that signs bundles.")

    judge_url: str | None = Field(
        default=None, description="OpenAI-compatible endpoint (http://HOST:PORT/v1) that judges golden answers."
    )
    judge_model: str | None = Field(default=None, description="The model to ask there.")
    judge_api_key: SecretStr | None = None

    def __init__(self, **values: Any) -> None:
        """Read the environment; ``values`` go before it.

        Raises:
            SettingInvalid: naming the variable.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = str(first["loc"][0]).upper() if first["loc"] else "a setting"
            variable = name if name.startswith(("QDRANT_", "MLFLOW_", "SLIPSTREAM_")) else f"SLIPSTREAM_{name}"
            raise SettingInvalid(f"{variable}: {first['msg']}", f"change or unset {variable}") from None
        if self.require_signature and self.verify_key is None:
            raise SettingInvalid(
                "SLIPSTREAM_REQUIRE_SIGNATURE: a signature is demanded, and nothing says whose",
                "set SLIPSTREAM_VERIFY_KEY to the public key (PEM) of who signs your bundles",
            )

    @cached_property
    def root(self) -> Path:
        """``home``, absolute: children run in other working directories.

        Raises:
            SettingInvalid: it cannot be a folder.
        """
        try:
            path = self.home.expanduser().resolve()
            is_other = path.exists() and not path.is_dir()
        except (OSError, RuntimeError) as error:  # too long, a loop of links, no such user
            raise SettingInvalid(f"SLIPSTREAM_HOME: {error}", "name a folder that can be made") from error
        if is_other:
            raise SettingInvalid(f"SLIPSTREAM_HOME: {path} is not a folder", "name a folder that can be made")
        return path

    @property
    def bundles_dir(self) -> Path:
        return self.root / "bundles"

    @property
    def cache_dir(self) -> Path:
        return self.root / "cache"

    @property
    def index_dir(self) -> Path:
        return self.root / "index"

    @property
    def repository_dir(self) -> Path:
        return self.root / "repository"

    @property
    def registry_uri(self) -> str:
        """The MLflow URI in force: SQLite under ``home`` unless one was set."""
        return self.mlflow_uri or f"sqlite:///{self.root / 'mlflow' / 'mlflow.db'}"
