"""Write a model of the program as a folder that transformers reads and a hub can take.

    python examples/transformers_folder.py qwen2.5-coder-0.5b folder
    python examples/transformers_folder.py qwen2.5-coder-0.5b folder "What is a budget?"

The adapter that answers use is merged into the weights. `hf upload OWNER/NAME folder` publishes the
folder; after `import nsa_models.transformers_model`, `AutoModelForCausalLM.from_pretrained` reads
it.
"""

import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from nsa_models.hub.resolve import resolve_model
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights.load import load_config, load_model

CARD = """---
library_name: nsa
pipeline_tag: text-generation
---
# {name} with Native Sparse Attention

    import nsa_models.transformers_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained("OWNER/NAME")
    model.generate(**inputs, question_tokens=100)

The last `question_tokens` of a prompt, and the answer, attend to more than the text before them.
"""


def write(name: str, folder: Path) -> None:
    """Write the weights, configuration, tokenizer and card of a model: a name, folder or file."""
    where = resolve_model(
        name, on_progress=lambda *_: None, on_note=lambda note: print(note, file=sys.stderr)
    )
    config, _ = load_config(where.folder, where.adapter)
    model = load_model(where.folder, config, adapter=where.adapter, kind=NSAForCausalLM)
    assert isinstance(model, NSAForCausalLM)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(where.folder).save_pretrained(folder)
    (folder / "README.md").write_text(CARD.format(name=name), encoding="utf-8")


def ask(folder: Path, question: str) -> str:
    """Answer by transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    tokens = inputs["input_ids"].shape[1]
    answer = model.generate(**inputs, question_tokens=tokens, max_new_tokens=64, do_sample=False)
    text: str = tokenizer.decode(answer[0, tokens:], skip_special_tokens=True)
    return text


def main(name: str, folder: str, question: str | None = None) -> None:
    """Write the folder, and ask it."""
    write(name, Path(folder))
    if question is not None:
        print(ask(Path(folder), question))


if __name__ == "__main__":
    main(*sys.argv[1:])
