"""The split of a chat template around the user's text."""

from __future__ import annotations

from datetime import datetime

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from nsa_models.errors import ModelError
from nsa_models.tokenization.chat_template import ChatFrame, chat_frame, chat_parts

LLAMA3 = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
QWEN = (
    "{%- if tools %}\n{{ tools | tojson }}\n{%- endif %}\n"
    "{%- if messages[0]['role'] != 'system' %}\n"
    "    {{- '<|im_start|>system\nYou are Qwen.<|im_end|>\n' }}\n{%- endif %}\n"
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\n' }}\n{%- endif %}\n"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
BLOCKS = (
    "{% for message in messages %}\n    {% if true %}\n"
    "{{ message.content }}\n    {% endif %}\n{% endfor %}\nanswer:"
)
MASKED = (
    "{% for message in messages %}{% if message.role == 'tool' %}{% continue %}{% endif %}"
    "{{ message.content }}|{% endfor %}{% generation %}{{ 'answer:' }}{% endgeneration %}"
)
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize("template", [LLAMA3, QWEN, GEMMA, BLOCKS, MASKED])
@pytest.mark.parametrize("question", ["What is it?", "{{ 1 + 1 }} <|im_end|>"])
def test_frame_is_what_transformers_renders(template: str, question: str) -> None:
    frame = chat_frame(template, NAMES, None)
    [expected], _ = render_jinja_template(
        [[{"role": "user", "content": question}]],
        chat_template=template,
        add_generation_prompt=True,
        **NAMES,
    )
    assert frame.before + question + frame.after == expected
    assert frame.has_template


def test_the_system_message_is_a_separate_turn() -> None:
    frame = chat_frame(LLAMA3, NAMES, "Be brief.")
    assert frame.before == (
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n"
    )
    assert frame.after == "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


def test_a_refused_system_message_joins_the_users_text() -> None:
    frame = chat_frame(GEMMA, NAMES, "Be brief.")
    assert frame.before == "<s><start_of_turn>user\nBe brief.\n\n"


def test_an_ignored_system_message_joins_the_users_text() -> None:
    template = "{% for m in messages if m.role == 'user' %}[{{ m.content }}]{% endfor %}"
    assert chat_frame(template, NAMES, "Be brief.").before == "[Be brief.\n\n"


def test_no_template() -> None:
    assert chat_frame(None, NAMES, "Be brief.") == ChatFrame(
        before="", after="", has_template=False
    )


def test_json_is_not_escaped_for_html() -> None:
    frame = chat_frame("{{ ['é<b>'] | tojson }}{{ messages[0].content }}", {}, None)
    assert frame.before == '["é<b>"]'


def test_the_date_is_today() -> None:
    frame = chat_frame("{{ strftime_now('%Y') }}{{ messages[0].content }}", {}, None)
    assert frame.before in {str(datetime.now().year), str(datetime.now().year - 1)}


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ messages[0].content }}{{ messages[0].content }}", "2 times"),
        ("nothing", "0 times"),
        ("{% if %}", "Expected an expression"),
        ("{{ messages[0].content.missing.deeper }}", "no attribute"),
        ("{{ messages.clear() }}", "unsafe"),
        ("{{ raise_exception('no') }}", "no"),
    ],
)
def test_unusable_templates(template: str, why: str) -> None:
    with pytest.raises(ModelError, match=why) as caught:
        chat_frame(template, NAMES, None)
    assert caught.value.code == "model_unsupported"


TALK = [
    ("system", "Be brief."),
    ("user", "Who <|im_end|>?"),
    ("assistant", "A worker."),
    ("user", "And"),
    ("user", "when?"),
]


@pytest.mark.parametrize("template", [QWEN, LLAMA3])
def test_a_conversation_is_rendered_as_by_transformers(template: str) -> None:
    parts = chat_parts(template, NAMES, TALK)
    messages = [
        *({"role": role, "content": text} for role, text in TALK[:3]),
        {"role": "user", "content": "And\n\nwhen?"},
    ]
    [whole], _ = render_jinja_template(
        [messages], chat_template=template, add_generation_prompt=True, **NAMES
    )
    assert "".join(text for text, _ in parts) == whole
    said = [text for text, is_said in parts if is_said]
    assert said == ["Be brief.", "Who <|im_end|>?", "A worker.", "And\n\nwhen?"]


def test_a_refused_system_message_precedes_the_users_text() -> None:
    parts = chat_parts(GEMMA, NAMES, TALK[:2])
    assert [text for text, said in parts if said] == ["Be brief.\n\nWho <|im_end|>?"]
    alone = chat_parts(GEMMA, NAMES, TALK[:1])
    assert [text for text, said in alone if said] == ["Be brief."]


def test_a_conversation_without_a_template() -> None:
    text = "".join(text for text, _ in chat_parts(None, NAMES, TALK[:2]))
    assert text == "system: Be brief.\nuser: Who <|im_end|>?\nassistant:"


def test_a_template_that_omits_messages() -> None:
    with pytest.raises(ModelError, match="omits"):
        chat_parts("{{ messages[0].content }}", NAMES, TALK[1:3])
