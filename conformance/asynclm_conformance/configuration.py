"""The settings of a project that runs the suite: `asynclm-conformance.yaml`, read where no target is given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from asynclm_conformance.cases.errors import CaseError
from asynclm_conformance.cases.yaml_reading import read_yaml

FILE = Path("asynclm-conformance.yaml")


class ConfigurationError(ValueError):
    """The configuration cannot be used; the message names the field and what is allowed."""


class Configuration(BaseModel):
    """What `run` takes from the file; each has an option of the same name, which goes before it.

    Attributes:
        target: an address (`grpc://HOST:PORT`), or the words of a command with `{port}` in it.
        profile: what is to be claimed.
        known_failing: a file of patterns, each with its reason behind a `#`.
        known_flaky: the same, of cases that fail at times.
        skip: patterns of cases that are not run.
        jobs: cases at the same time.
        patience: seconds that anything that has to come is waited for.
        start: seconds that the target is given to be healthy.
        out: where the record goes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str | tuple[str, ...] = ()
    profile: str = "full"
    known_failing: Path | None = None
    known_flaky: Path | None = None
    skip: tuple[str, ...] = ()
    jobs: Annotated[int, Field(ge=1)] = 8
    patience: Annotated[float, Field(gt=0)] = 10.0
    start: Annotated[float, Field(gt=0)] = 60.0
    out: Path = Path("results.jsonl")

    @property
    def words(self) -> tuple[str, ...]:
        """The target as words."""
        return (self.target,) if isinstance(self.target, str) else self.target


def read_configuration(path: Path | None) -> Configuration:
    """Reads a configuration; without a path, that of the working directory if there is one.

    Raises:
        ConfigurationError: it cannot be read, or a field is not allowed.
    """
    if path is None:
        if not FILE.exists():
            return Configuration()
        path = FILE
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    except CaseError as error:
        raise ConfigurationError(str(error)) from None
    try:
        found = Configuration.model_validate({} if raw is None else raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        allowed = ", ".join(Configuration.model_fields)
        raise ConfigurationError(f"{path}: {field}: {first['msg']}; fields: {allowed}") from None
    folder = path.parent
    return found.model_copy(
        update={
            name: folder / value
            for name in ("known_failing", "known_flaky")
            if (value := getattr(found, name)) is not None
        }
    )
