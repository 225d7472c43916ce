"""Whether a sentence says what a question asks, or denies it: negations, exceptions, duties."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from nsa_cli.retrieval.languages import function_words
from nsa_cli.retrieval.sentences import content_words, is_figure, sentences

YES = re.compile(r"\s*(?:yes|ja|oui|s[ií]|はい|是的?)\b", re.IGNORECASE)
NO = re.compile(r"\s*(?:no|nein|non|いいえ|不是?)\b(?!\.? ?\d)", re.IGNORECASE)

_NEGATION = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|cannot|nothing|nobody|prohibited|forbidden|"
    r"nicht|kein\w*|nie|niemals|ohne|ne|pas|aucune?|jamais|sans|non|sin|nunca|ning[uú]n\w*)\b"
    r"|n['’]t\b|ません|ない|不|没|沒|未",
    re.IGNORECASE,
)
_NOT = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|cannot|nothing|nobody|nicht|kein\w*|nie|niemals|"
    r"ohne|ne|pas|aucune?|jamais|sans|non|sin|nunca|ning[uú]n\w*)\b|n['’]t\b|ません|ない|不|没|沒|未",
    re.IGNORECASE,
)
_LIMITS = re.compile(
    r"\bno\.? ?\d|\b(?:not|non) only\b|\bnicht nur\b|\bpas seulement\b"
    r"|\b(?:no|not) (?:later|sooner|earlier|more|less|fewer) than\b"
    r"|\bnicht (?:später|früher|mehr|weniger|länger) als\b"
    r"|\bpas plus (?:tard|tôt) que\b|\bn(?:e\b|['’])(?=(?:(?!\bpas\b)[^.;])*\bqu(?:e\b|['’]))",
    re.IGNORECASE,
)
"""Words of negation that negate no statement: `no later than`, `not only`, `ne … que`."""

_REFUSAL = re.compile(
    r"\b(?:forbid(?:s|den)?|prohibit(?:s|ed)|banned|unable|impossible|verboten|untersagt|unzulässig"
    r"|unmöglich|interdite?s?|prohibid[oa]s?)\b"
    r"|\b(?:is|are|was|were|be|been|being|remains?)\s+(?:\w+\s+){0,4}?"
    r"(?:rejected|refused|denied|declined|excluded|unpaid|missing|skipped|ruled out)\b"
    r"|\b(?:abgelehnt|ausgeschlossen|rejetée?s?|refusée?s?|exclue?s?|rechazad[oa]s?|excluid[oa]s?)"
    r"(?!\w)",
    re.IGNORECASE,
)
"""Words that deny without a negation; one with a negation (`not forbidden`) permits."""

_CLAUSE = re.compile(
    r";\s*|(?:,\s*)?\b(?=(?:but|however|whereas|while|because|since|unless|except|excluding"
    r"|other than|apart from|without|if|aber|sondern|während|weil|wenn|außer|ausgenommen|ohne"
    r"|es sei denn|mais|tandis que|parce que|sauf|excepté|sans|à moins|pero|porque|salvo|excepto"
    r")\b)",
    re.IGNORECASE,
)
_EXCEPTION = re.compile(
    r"(?:unless|except|excluding|other than|apart from|außer|ausgenommen|es sei denn|sauf|excepté"
    r"|à moins|salvo|excepto)\b",
    re.IGNORECASE,
)
"""A clause that begins so denies what its main clause says, or says what that denies."""

_ONLY = re.compile(
    r"\b(?:only|solely|exclusively|nur|ausschließlich|lediglich|uniquement|seulement|únicamente"
    r"|solamente|sólo)\b|\bn(?:e\b|['’])(?=(?:(?!\bpas\b)[^.;])*\bqu(?:e\b|['’]))",
    re.IGNORECASE,
)
_DUTY = re.compile(
    r"\b(?:must|shall|required|obliged|obligated|mandatory|compulsory|necessary|have to|has to"
    r"|need(?:s|ed)?|muss|müssen|verpflichtet|erforderlich|nötig|notwendig|doit|doivent|obligatoire"
    r"|faut|nécessaire|debe|deben|obligatorio)\b",
    re.IGNORECASE,
)
_PERMISSION = re.compile(
    r"\b(?:may|might|can|allowed|permitted|optional|voluntary|recommended|kann|können|darf|dürfen"
    r"|erlaubt|gestattet|freiwillig|peut|peuvent|autorisée?s?|permise?s?|facultati\w+|puede|pueden"
    r"|permitid[oa]s?)(?!\w)",
    re.IGNORECASE,
)
_OPTIONAL = re.compile(
    r"\b(?:optional|voluntary|freiwillig|facultati\w+|facultativ\w+|voluntari[oa]s?)(?!\w)",
    re.IGNORECASE,
)
_ALLOWED = re.compile(
    r"allowed|permitted|accepted|approved|granted|possible|erlaubt|gestattet|zulässig|genehmigt"
    r"|angenommen|möglich|permise?s?|permis|autorisée?s?|admise?s?|acceptée?s?|permitid[oa]s?"
    r"|aceptad[oa]s?"
)
"""Words of a question that a sentence answers with its own word for what may be or not."""

_CAUSE = re.compile(r"(?:because|since|weil|parce que|porque)\b", re.IGNORECASE)
_WITH_PRONOUN = re.compile(r"-(?:t-)?(?:ils?|elles?|on|vous|nous|tu|je|ce)$")
_NO_DUTY = re.compile(
    r"\b(?:not|n['’]t)\s+(?:\w+\s+)?"
    r"(?:required|necessary|obliged|mandatory|compulsory|have to|need)"
    r"|\bneed(?:s|ed)?\s+(?:not|no)\b|\bno\s+(?:\w+\s+)?(?:required|needed|necessary)\b"
    r"|\bnicht\s+(?:\w+\s+)?(?:erforderlich|nötig|notwendig|verpflichtet)\b"
    r"|\b(?:muss|müssen|brauch\w+)\s+(?:\w+\s+){0,3}(?:nicht|kein\w*)\b"
    r"|\bpas\s+(?:\w+\s+)?(?:obligatoire|nécessaire|obligée?s?|tenue?s?)(?!\w)"
    r"|\bno es (?:obligatorio|necesario)\b",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|does|do|did|may|might|must|shall|should|can|could|will|would"
    r"|need|needs|cannot|\w+n['’]t|ist|sind|war|waren|hat|haben|darf|dürfen|kann|können|muss|müssen"
    r"|soll|sollen|wird|werden|wurde|wurden|gilt|gelten|est|sont|était|a|ont|peut|peuvent|doit"
    r"|doivent|faut|es|son|fue|hay|puede|pueden|debe|deben)\b",
    re.IGNORECASE,
)
_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|en|er|e|s|n)$")
_TOKEN = re.compile(r"\S+")
_LEAST_WORDS, _AROUND = 2, 3
"""Content words that a statement has at least, and words around those that a sentence shares."""

_STEM = 5
"""Two words with this many first letters in common count as forms of one word."""


def akin(word: str, other: str) -> bool:
    """Whether two words are forms of one word."""
    return word == other or (len(word) >= _STEM and word[:_STEM] == other[:_STEM])


def is_negated(text: str) -> bool:
    """Whether a text has a word of negation, such as `not` or `without`."""
    return _NEGATION.search(text) is not None


def denies(text: str) -> bool:
    """Whether a clause denies: by a negation or by a word such as `forbidden`, and not by both."""
    plain = _LIMITS.sub(" ", text)
    return bool(_NOT.search(plain)) != bool(_REFUSAL.search(plain))


def stance(sentence: str, question: str) -> bool | None:
    """Return whether a sentence says what a question asks; False if it denies it.

    Only the clause with the words of the question counts. It is None for a sentence that does not
    tell: it limits something (`only`) and lacks a word of the question, or it permits what the
    question takes for a duty, or it denies a duty where the question asks for a permission.

    Args:
        sentence: A sentence with most words of the question.
        question: The question, or a statement.
    """
    asked = statement_words(question)
    clauses = [each for each in _CLAUSE.split(sentence) if each.strip()] or [sentence]
    at = _decisive(clauses, asked)
    clause = clauses[at]
    if len(_found(sentence, asked)) < len(asked) and _ONLY.search(clause):
        return None
    denied = denies(clause)
    if at and _EXCEPTION.match(clause):
        denied = denied == denies(clauses[at - 1])
    if _DUTY.search(question):
        if _OPTIONAL.search(clause):
            denied = not denied
        elif _PERMISSION.search(clause) and not (denied or _DUTY.search(clause)):
            return None
    elif _PERMISSION.search(question) and denied and _NO_DUTY.search(clause):
        return None
    return denied == denies(question)


def best_sentence(text: str, words: Collection[str]) -> str | None:
    """Return the first sentence of a text that has most of some words; None if none has enough."""
    return next(iter(_best_sentences(text, words)), None)


def statement_words(text: str) -> list[str]:
    """Return the content words of a text without figures and function words, in its order.

    Args:
        text: A question or a statement in English, German, French or Spanish.
    """
    folded = text.casefold()
    found = {_WITH_PRONOUN.sub("", word) for word in content_words(text) if not is_figure(word)}
    return sorted(found - function_words(text), key=folded.find)


def is_said(question: str, passage: str, agrees: bool) -> bool:
    """Whether a sentence of a passage says what a question asks, or denies it.

    Args:
        question: The question, for yes or no.
        passage: The passage.
        agrees: Whether the answer is yes.
    """
    best = best_sentence(passage, statement_words(question))
    return best is not None and stance(best, question) is agrees


def is_refuted(answer: str, question: str, passage: str) -> bool:
    """Whether a sentence of a passage says the contrary of an answer that begins with yes or no.

    Args:
        answer: The answer.
        question: The question.
        passage: The passage.
    """
    agrees = YES.match(answer) is not None
    if not (agrees or NO.match(answer)):
        return False
    told = _best_sentences(passage, statement_words(question))
    return bool(told) and all(stance(each, question) is (not agrees) for each in told)


def is_contrary(statement: str, passage: str) -> bool:
    """Whether each sentence of a passage that has the words of a statement denies it.

    A name or a phrase is no statement: without a verb such as `is` or `may` it is never denied.
    A statement of several clauses is not judged.

    Args:
        statement: A sentence of an answer.
        passage: The passage.
    """
    words = statement_words(statement)
    clauses = [each for each in _CLAUSE.split(statement) if each.strip()]
    if len(words) < _LEAST_WORDS or len(clauses) > 1 or not _VERB.search(statement):
        return False
    told = _best_sentences(passage, words)
    return bool(told) and all(stance(_near(each, words), statement) is False for each in told)


def _near(sentence: str, words: Collection[str]) -> str:
    """The part of a sentence that has some words, with a few around it."""
    tokens = list(_TOKEN.finditer(sentence))
    places = [at for at, token in enumerate(tokens) if _found(token.group(), words)]
    if not places:
        return sentence
    first, last = max(0, places[0] - _AROUND), min(len(tokens) - 1, places[-1] + _AROUND)
    return sentence[tokens[first].start() : tokens[last].end()]


def contradicts_itself(answer: str, question: str) -> bool:
    """Whether an answer says yes, and denies what is asked in the same sentence.

    Args:
        answer: The answer.
        question: The question.
    """
    found = YES.match(answer)
    if found is None or denies(question):
        return False
    start, end = next(sentences(answer, found.end(), len(answer)), (0, 0))
    rest = answer[start:end].lstrip(" ,.:–-")
    if answer[found.end() : start + 1].strip()[:1] not in {",", "", ":", "–", "-"}:
        return False
    shares = bool(rest and _found(rest, statement_words(question)))
    return shares and stance(rest, question) is False


def without_contradiction(answer: str, question: str) -> str:
    """Return an answer without a yes that its own statement denies.

    Args:
        answer: The answer, such as `Yes, the bill has not been paid.`.
        question: The question.
    """
    found = YES.match(answer)
    if found is None or not contradicts_itself(answer, question):
        return answer
    rest = answer[found.end() :].lstrip(" ,.:–-\n")
    return rest[:1].upper() + rest[1:]


def _best_sentences(text: str, words: Collection[str]) -> list[str]:
    """The sentences of a text that have most of some words, if these are two thirds of them."""
    best: list[str] = []
    most = 0
    for start, end in sentences(text, 0, len(text)):
        found = len(_found(text[start:end], words))
        if found > most:
            best, most = [], found
        if found and found == most:
            best.append(text[start:end])
    return best if words and 3 * most >= 2 * len(words) else []


def _found(sentence: str, words: Collection[str]) -> list[str]:
    """Those of some words that a sentence has, or answers with another word of permission."""
    there = content_words(sentence)
    tells = _REFUSAL.search(sentence) or _PERMISSION.search(sentence)
    return [
        word
        for word in words
        if any(_alike(word, other) for other in there) or (tells and _ALLOWED.fullmatch(word))
    ]


def _alike(word: str, other: str) -> bool:
    """Whether two words are akin, or the same without common endings: `smoke` and `smoking`."""
    return akin(word, other) or _ENDING.sub("", word) == _ENDING.sub("", other)


def _decisive(clauses: Sequence[str], asked: Sequence[str]) -> int:
    """Return the index of the last clause with a word of a question that those before it lack."""
    best, known = 0, set[str]()
    for at, clause in enumerate(clauses):
        found = set(_found(clause, asked))
        if found - known and (not known or not _CAUSE.match(clause)):
            best = at
        known |= found
    return best
