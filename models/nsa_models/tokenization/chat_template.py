"""Chat templates: the text before and after the user's text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from nsa_models.errors import ModelError

_USER_TEXT = "\ue000nsa:user-text\ue001"
"""Placeholder of the user's text during rendering: private-use characters, no white space."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatFrame:
    """The text of a chat template around the user's text.

    Attributes:
        before: Text before the user's text, with special tokens in written form.
        after: Text between the user's text and the answer.
        has_template: False for a model without a template, where both texts are empty.
    """

    before: str
    after: str
    has_template: bool


def chat_frame(
    template: str | None, special_tokens: dict[str, str], system: str | None
) -> ChatFrame:
    """Render a template with one user message and split the result at the user's text.

    Args:
        template: The Jinja source, or None.
        special_tokens: `bos_token` and other special tokens by name, for the template.
        system: System message. If the template refuses or ignores it, it precedes the user's
            text.

    Raises:
        ModelError: With code `model_unsupported` if the template cannot be rendered or does not
            contain the user's text exactly once.
    """
    if template is None:
        return ChatFrame(before="", after="", has_template=False)
    user = {"role": "user", "content": _USER_TEXT}
    attempts = [[user]]
    if system:
        merged = {"role": "user", "content": f"{system}\n\n{_USER_TEXT}"}
        attempts = [[{"role": "system", "content": system}, user], [merged]]
    problem = ""
    for messages in attempts:
        try:
            rendered = _render(template, messages, special_tokens)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            problem = str(error)
            continue
        parts = rendered.split(_USER_TEXT)
        if len(parts) != 2:
            problem = f"it contains the user's text {len(parts) - 1} times"
        elif system and system.strip() not in rendered:
            problem = "it omits the system message"
        else:
            return ChatFrame(before=parts[0], after=parts[1], has_template=True)
    raise ModelError(f"cannot use the model's chat template: {problem}", code="model_unsupported")


def _render(template: str, messages: list[dict[str, str]], special_tokens: dict[str, str]) -> str:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationTag, jinja2.ext.loopcontrols],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment.from_string(template).render(
        messages=messages,
        tools=None,
        documents=None,
        add_generation_prompt=True,
        **special_tokens,
    )


class _GenerationTag(jinja2.ext.Extension):
    """The tag `{% generation %}`, which marks the model's text for training."""

    tags = {"generation"}  # noqa: RUF012 - the name and kind are Jinja's

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    """Return JSON without HTML escapes, the `tojson` that templates for transformers expect."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(date_format: str) -> str:
    return datetime.now().strftime(date_format)
