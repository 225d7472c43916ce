"""Ask a model of transformers about a text, with Native Sparse Attention in it.

    python examples/transformers_attention.py HuggingFaceTB/SmolLM2-135M-Instruct report.txt "Why?"

The model is transformers' own, from the hub or a folder; `register_attention` is all that is ours.
"""

import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from nsa_models.attention_interface import register_attention


def main(model_name: str, document: str, question: str) -> None:
    """Print the answer."""
    tokenizer = AutoTokenizer.from_pretrained(model_name)
    asked = f"\n\n{question}"
    # The question, and the template after it, have the budget of answers; the text that of reading.
    register_attention(question_tokens=len(tokenizer(asked)["input_ids"]) + 16, window=1024)
    model = AutoModelForCausalLM.from_pretrained(model_name, attn_implementation="nsa")
    messages = [{"role": "user", "content": Path(document).read_text(encoding="utf-8") + asked}]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    answer = model.generate(**inputs, max_new_tokens=64, do_sample=False)
    tokens = inputs["input_ids"].shape[1]
    print(f"{tokens} tokens read")
    print(tokenizer.decode(answer[0, tokens:], skip_special_tokens=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
