"""Chat templates: the text before and after the user's text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
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

_MARK = "\ue000nsa:{}\ue001"
_MARKS = re.compile(_MARK.format(r"(\d+)"))
"""Placeholders of the texts of a conversation."""


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


def chat_parts(
    template: str | None, special_tokens: dict[str, str], messages: Sequence[tuple[str, str]]
) -> list[tuple[str, bool]]:
    """Render a template with a conversation and split the result at the messages' texts.

    Messages of one role that follow each other become one. If the template refuses or ignores the
    system message, it precedes the first text of the user.

    Args:
        template: The Jinja source, or None for plain text.
        special_tokens: As for `chat_frame`.
        messages: Roles (`system`, `user` or `assistant`) and texts, in order.

    Returns:
        Parts of the prompt, and whether each is a text of a message.

    Raises:
        ModelError: With code `model_unsupported` if the template cannot be used.
    """
    turns = _joined(messages)
    if template is None:
        plain: list[tuple[str, bool]] = []
        for role, text in turns:
            plain += [(f"{role}: ", False), (text, True), ("\n", False)]
        return [*plain, ("assistant:", False)]
    problem = ""
    for attempt in (turns, _system_in_user(turns)):
        marked = [
            {"role": role, "content": _MARK.format(number)}
            for number, (role, _) in enumerate(attempt)
        ]
        try:
            rendered = _render(template, marked, special_tokens)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            problem = str(error)
            continue
        pieces = _MARKS.split(rendered)
        if [int(each) for each in pieces[1::2]] == list(range(len(attempt))):
            return [
                (attempt[int(piece)][1], True) if number % 2 else (piece, False)
                for number, piece in enumerate(pieces)
            ]
        problem = "it omits or repeats messages"
    raise ModelError(f"cannot use the model's chat template: {problem}", code="model_unsupported")


def _joined(messages: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Join messages of one role that follow each other; all system messages become the first."""
    system = [text for role, text in messages if role == "system"]
    turns = [("system", "\n\n".join(system))] if system else []
    for role, text in messages:
        if role == "system":
            continue
        if turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n\n{text}")
        else:
            turns.append((role, text))
    return turns


def _system_in_user(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Move the system message into the first text of the user."""
    if not turns or turns[0][0] != "system":
        return turns
    rest = turns[1:]
    if not rest or rest[0][0] != "user":
        return [("user", turns[0][1]), *rest]
    return [("user", f"{turns[0][1]}\n\n{rest[0][1]}"), *rest[1:]]


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
