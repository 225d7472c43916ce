"""Tells whether an answer declines: it says that the document does not say."""

from __future__ import annotations

import re
import unicodedata

DECLINED = "The document does not say."
"""The answer where a document does not answer a question."""


def _any(words: str) -> str:
    """A pattern of any of some words; `_` is a space."""
    return f"(?:{'|'.join(word.replace('_', ' ') for word in words.split())})"


_THING = _any(
    "documents? text report manual contract agreement lease paper pages? passages? excerpts? "
    "context minutes form file section table information article policy source it"
)
_SAY = _any(
    "say state specify mention provide give contain disclose report include indicate list address "
    "tell define discuss describe reveal note show record answer explain identify"
)
_SAID = _any(
    "said stated specified mentioned provided given disclosed reported available indicated found "
    "included addressed listed defined discussed described known recorded answered explicitly "
    "explained identified present contained clear"
)
_NOTICE = _any("information mention indication answer")
_FACTS = _any("data details?")
_OF_IT = _any("about on regarding concerning available provided given found to in_the")
_FOUND = _any(
    "determined? found find answer(?:ed)? tell say establish(?:ed)? inferred infer calculated? "
    "computed? derived? provided?"
)
_NOT = _any("does_not do_not did_not doesn't don't didn't never")
_UNABLE = _any("cannot can't can_not could_not unable_to not_possible_to impossible_to")
_ENGLISH = (
    (
        rf"\b{_THING}\b[^.]{{0,60}}?\b{_NOT}"
        rf"(?: \w+)? {_SAY}"
    ),
    rf"\b(?:is|are|was|were) (?:not|nowhere)(?: \w+)? {_SAID}\b",
    rf"\b(?:isn't|aren't|wasn't|weren't)(?: \w+)? {_SAID}\b",
    (
        rf"\b{_any('no not_any without_any')} "
        rf"(?:{_any('specific explicit such further relevant direct clear')} )?"
        rf"(?:{_NOTICE}|{_FACTS}(?=\W*$|(?: (?:is|are|was|were))? {_OF_IT}))\b"
    ),
    rf"^(?:it is |this is |that is )?(?:not|nowhere) (?:\w+ )?{_SAID}\b",
    (
        rf"\b{_UNABLE}"
        rf" (?:be )?{_FOUND}\b"
    ),
    rf"\bi (?:do not|don't|cannot|can't) {_any('know find see tell answer have')}\b",
    rf"^{_any('unknown n/a none_stated unanswerable not_applicable not_stated')}\b",
    rf"\b{_THING}\b (?:is|are|remains?) silent\b",
)
_GERMAN = (
    r"\b(?:nicht|nirgends)(?: \w+)? "
    + _any(
        "angegeben genannt erwahnt enthalten aufgefuhrt ersichtlich bekannt festgelegt beschrieben "
        "angefuhrt spezifiziert gesagt zu_finden beantwort\\w+"
    )
    + r"\b",
    r"\bkeine?n? (?:\w+ )?"
    + _any("angaben? informationen information hinweise? auskunft aussagen? antwort erwahnung"),
    r"\bgeht (?:\w+ ){0,6}nicht hervor\b",
    (
        rf"\b{_any('dokument text bericht handbuch vertrag')}\b[^.]{{0,40}}?"
        rf"\b{_any('sagt nennt enthalt macht gibt erwahnt besagt')}\b[^.]{{0,40}}?"
        rf"\b{_any('nicht nichts keine?n?')}\b"
    ),
)
_ROMANCE = (
    (
        r"\bn(?:e |')(?:\w+ )?"
        rf"{_any('dit precise mentionne indique donne contient fournit specifie figure')}"
        rf"\b[^.]{{0,30}}?\b{_any('pas aucune? rien')}\b"
    ),
    (
        r"\bn(?:e |')(?:est|sont) (?:pas|nulle part) (?:\w+ )?"
        + _any(
            "mentionne\\w* indique\\w* precise\\w* specifie\\w* dit\\w* donne\\w* "
            "fourni\\w* connu\\w* decrit\\w* repondu possible_de dans_le_document dans_le_texte"
        )
        + r"\b"
    ),
    rf"\baucune? {_any('information mention indication donnee precision reponse')}\b",
    r"\b(?:no|nao|no se|no lo) (?:\w+ )?"
    + _any(
        "dice menciona indica especifica proporciona contiene consta figura informa senala "
        "encuentra aparece diz fornece contem"
    )
    + r"\b",
    (
        rf"\b{_any('ninguna nenhuma no_hay no_existe')} "
        rf"{_any('informacion mencion informacao dato')}"
    ),
    r"\bnon (?:\w+ )?"
    + _any(
        "dice menziona indica specifica fornisce contiene riporta precisa specificato indicato "
        "menzionato riportato precisato disponibile"
    )
    + r"\b",
    rf"\bnessuna {_any('informazione menzione indicazione')}\b",
)
_DUTCH = (rf"\bniet (?:\w+ )?{_any('vermeld genoemd gespecificeerd bekend aangegeven')}\b",)
_EAST_ASIAN = (
    (
        _any("記載 記述 言及 説明 明記 情報 記されて 書かれて 示されて 述べられて")
        + rf"[^。]{{0,8}}{_any('いません いない ありません ない なし')}"
    ),
    _any("わかりません 分かりません 不明"),
    rf"{_any('没有 沒有 并未 並未 未')}[^。]{{0,6}}"
    + _any("提到 说明 說明 提及 给出 記載 记载 提供 指明 披露 规定 指定 信息 相关 列出"),
    rf"{_any('无法 無法')}{_any('确定 得知 回答 判断 確定')}",
)
_DECLINES = re.compile(
    "|".join(f"(?:{each})" for each in (*_ENGLISH, *_GERMAN, *_ROMANCE, *_DUTCH, *_EAST_ASIAN))
)
_ACCENTS = re.compile(r"[\u0300-\u036f]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


def declines(answer: str) -> bool:
    """Whether the first sentence of an answer says that the document does not say.

    It recognizes "The document does not say." and its plain variants in English, German, French,
    Spanish, Portuguese, Italian, Dutch, Japanese and Chinese.

    Args:
        answer: The answer of a model.
    """
    plain = unicodedata.normalize("NFKC", answer).replace("’", "'").casefold().strip()
    plain = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", plain)))
    first = next((each for each in _SENTENCE.split(plain) if each.strip()), "")
    return bool(_DECLINES.search(first))
