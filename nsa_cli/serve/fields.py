"""Fields of requests: their values, and those that this server ignores or refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from nsa_cli.serve.jobs import MOST_TOKENS
from nsa_models.errors import NsaError

_WITHOUT_EFFECT = frozenset(
    {
        *("user", "metadata", "store", "service_tier", "parallel_tool_calls", "background"),
        *("safety_identifier", "prompt_cache_key", "prompt_cache_retention", "include"),
        *("truncation", "max_tool_calls", "session_id", "chat_id"),
    }
)
"""Fields that change no answer here, ignored without a warning."""

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (0, 1),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "logit_bias": ({},),
    "modalities": (["text"],),
}
"""Values with which a field is ignored without a warning."""

_REFUSED: Mapping[str, str] = {
    "tool_choice": "this server calls no tools; ask for JSON with response_format",
    "function_call": "this server calls no tools; ask for JSON with response_format",
    "logit_bias": "omit it; response_format restricts an answer",
    "modalities": "this server answers in text",
    "audio": "this server answers in text",
    "previous_response_id": "this server keeps no responses; send the earlier turns in input",
    "conversation": "this server keeps no conversations; send the earlier turns in input",
    "prompt": "this server keeps no prompts; send instructions and input",
    "suffix": "omit it",
    "echo": "omit it",
}
"""Fields that a client relies on, and what to do instead."""

MOST_CHOICES = 4
_MOST_STOPS = 4
_LONGEST_STOP = 500
_MOST_LOGPROBS = 20


class RequestError(NsaError):
    """An invalid request; `param` names the field."""

    exit_code = 2
    default_code = "invalid_request"

    def __init__(self, message: str, param: str | None, *, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint=hint, code=code)
        self.param = param


def check_fields(body: Mapping[str, Any], supported: Collection[str]) -> tuple[str, ...]:
    """The warnings about fields that are ignored.

    Args:
        body: The request.
        supported: Names of the fields that have an effect.

    Raises:
        RequestError: If a client relies on a field that this server does not support.
    """
    warnings = []
    for name, value in body.items():
        if name in supported or name in _WITHOUT_EFFECT or value is None:
            continue
        if value in _NEUTRAL.get(name, ()):
            continue
        if name in _REFUSED:
            shown = json.dumps(value)[:80]
            raise RequestError(f"{name} {shown} is not supported", name, hint=_REFUSED[name])
        warnings.append(f"{printable(name)} is not supported and was ignored")
    return tuple(warnings)


def printable(name: str) -> str:
    """A field's name as a warning shows it."""
    return "".join(char if char.isprintable() else "?" for char in name)[:60]


def value_of(body: Mapping[str, Any], name: str, default: Any, kind: Any, form: str) -> Any:
    """The value of a field, or the default; `form` describes it in the error.

    Raises:
        RequestError: If the value is of another kind.
    """
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RequestError(f"{name} must be {form}, got {json.dumps(value)[:80]}", name)
    return value


def number_of(
    body: Mapping[str, Any], name: str, default: float, least: float, most: float
) -> float:
    """The value of a field that is a number between two others.

    Raises:
        RequestError: If the value is not.
    """
    value = value_of(body, name, default, (int, float), "a number")
    if not math.isfinite(value) or not least <= value <= most:
        raise RequestError(f"{name} must be between {least:g} and {most:g}, got {value!r}", name)
    return float(value)


def check_model(body: Mapping[str, Any], model: str) -> None:
    """Check the field `model`.

    Raises:
        RequestError: If it names another model.
    """
    name = body.get("model", model)
    if name != model:
        raise RequestError(
            f"model {name!r} not found",
            "model",
            hint=f"this server runs {model}",
            code="model_not_found",
        )


def max_tokens_of(body: Mapping[str, Any], names: Collection[str], default: int) -> int:
    """The maximum length of an answer in tokens.

    Args:
        body: The request.
        names: Fields that give it, the first before the others.
        default: Where none does.

    Raises:
        RequestError: If it is not a positive whole number.
    """
    name = next((each for each in names if body.get(each) is not None), None)
    if name is None:
        return default
    limit = body[name]
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise RequestError(f"{name} must be a positive whole number, got {limit!r}", name)
    return min(limit, MOST_TOKENS)


def choices_of(body: Mapping[str, Any]) -> int:
    """The number of answers, the field `n`.

    Raises:
        RequestError: If it is not between 1 and 4.
    """
    count: int = value_of(body, "n", 1, int, "a whole number")
    if not 1 <= count <= MOST_CHOICES:
        raise RequestError(f"n must be between 1 and {MOST_CHOICES}, got {count}", "n")
    return count


def stops_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The strings before which an answer ends, the field `stop`.

    Raises:
        RequestError: If they are not up to four strings.
    """
    stops = body.get("stop")
    if stops is None:
        return ()
    if isinstance(stops, str):
        stops = [stops]
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise RequestError("stop must be a string or a list of strings", "stop")
    if len(stops) > _MOST_STOPS or any(len(stop) > _LONGEST_STOP for stop in stops):
        raise RequestError(
            f"stop must have at most {_MOST_STOPS} strings of {_LONGEST_STOP} characters", "stop"
        )
    return tuple(stops)


def logprobs_of(body: Mapping[str, Any]) -> int | None:
    """The number of likeliest tokens to return with each; None without `logprobs`.

    Raises:
        RequestError: If `top_logprobs` is not between 0 and 20, or `logprobs` is missing.
    """
    wanted = value_of(body, "logprobs", False, bool, "true or false")
    count = top_logprobs_of(body)
    if count and not wanted:
        raise RequestError("top_logprobs needs logprobs", "top_logprobs", hint="set logprobs")
    return count if wanted else None


def top_logprobs_of(body: Mapping[str, Any]) -> int:
    """The value of the field `top_logprobs`; raises as `logprobs_of`."""
    count: int = value_of(body, "top_logprobs", 0, int, "a whole number")
    if not 0 <= count <= _MOST_LOGPROBS:
        raise RequestError(
            f"top_logprobs must be between 0 and {_MOST_LOGPROBS}, got {count}", "top_logprobs"
        )
    return count


def schema_of(form: Any, schema: Any, param: str) -> Mapping[str, Any] | None:
    """The JSON schema of a response format; None for free text.

    Args:
        form: The format's `type`.
        schema: Its JSON schema, for the type `json_schema`.
        param: Name of the field, for errors.

    Raises:
        RequestError: If the format is unknown or the schema cannot be used.
    """
    if form == "text":
        return None
    if form == "json_object":
        schema = {"type": "object"}
    elif form != "json_schema":
        raise RequestError(
            f"{param}.type {form!r} is not supported",
            param,
            hint="use text, json_object or json_schema",
        )
    if not isinstance(schema, dict):
        raise RequestError(f"{param} has no JSON schema", param, hint="send an object as schema")
    return schema
