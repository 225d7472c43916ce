"""Whether a sentence says what a question asks, or denies it: negations, exceptions, duties."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from nsa_cli.retrieval.clauses import FINITE, main_clauses, words_of
from nsa_cli.retrieval.languages import function_words
from nsa_cli.retrieval.sentences import content_words, is_figure, sentences

YES = re.compile(r"\s*(?:yes|ja|oui|s[ií]|はい|是的?)\b", re.IGNORECASE)
NO = re.compile(
    r"\s*(?:いいえ|不是?|(?:no|nein|non)\b(?!\.? ?\d)"
    r"(?=\s*(?:[^\w\s]|$)|\s+(?:i|it|he|she|they|you|we|er|sie|es|das|man|ils?|elles?|on)\b))",
    re.IGNORECASE,
)
"""The answer no; `No dogs are allowed` is a statement."""


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
    r"\b(?:forbid(?:s|den)?|prohibit(?:s|ed)|banned|unable|impossible|reject(?:s|ed)|refused|vetoed"
    r"|(?:turn|vot)ed down|turns? down|skipped|cancell?ed|fail(?:s|ed)?|exempt(?:ed)?|verboten"
    r"|untersagt|unzulässig|unmöglich|abgelehnt|ausgeschlossen|entfällt|abgesagt|fehlgeschlagen"
    r"|interdite?s?|prohibid[oa]s?)(?!\w)|\bausgenommen(?=\s*(?:[.,;:)]|$))"
    r"|\b(?:is|are|was|were|be|been|being|remains?)\s+(?:\w+\s+){0,4}?"
    r"(?:denied|declined|excluded|unpaid|missing|closed|ruled out)\b"
    r"|\b(?:declined|denied|excluded) by\b|: (?:declined|denied)\b"
    r"|\b(?:ist|sind|war|waren|bleib(?:t|en))\s+(?:\w+\s+){0,4}?geschlossen\b"
    r"|\b(?:est|sont|était|étaient|été|reste(?:nt)?)(?:-(?:il|elle)s?)?\s+(?:\w+\s+){0,2}?"
    r"(?:fermé|rejeté|refusé|exclu|annulé)e?s?(?!\w)"
    r"|\b(?:es|son|fue|fueron|está|están|sido)\s+(?:\w+\s+){0,2}?"
    r"(?:cerrad|rechazad|excluid|cancelad)[oa]s?(?!\w)",
    re.IGNORECASE,
)
"""Words that deny without a negation; one with a negation (`not forbidden`) permits."""

_ADJECTIVE = re.compile(
    r"(?:^\W*|\b(?:the|an?|any|all|no|of|for|with|to|from|in|on|by|your|his|her|its|our|their|these"
    r"|those|some|and|or)\s+)(?:forbidden|prohibited|banned|rejected|refused|vetoed|skipped"
    r"|cancell?ed|failed|exempt(?:ed)?)\s+(?!(?:by|on|in|at|for|from|to|because|until|as)\b)(?=\w)",
    re.IGNORECASE,
)
"""Words of refusal before a noun: `canceled bookings` are no denial."""

_CLAUSE = re.compile(
    r";\s*|(?:,\s*)?\b(?=(?:but|however|whereas|while|because|since|unless|except|excluding"
    r"|other than|apart from|without|if|(?:as|so) long as|provided(?= that)|aber|sondern|während"
    r"|weil|wenn|falls|solange|sofern|außer|ausgenommen(?! *[.,;:)]| *$)|ohne|es sei denn|mais"
    r"|tandis que|parce que|tant que|à condition|sauf|excepté|sans|à moins|pero|porque|siempre que"
    r"|salvo|excepto)\b)",
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

_CIRCUMSTANCE = re.compile(
    r"(?:because|since|if|(?:as|so) long as|provided|weil|wenn|falls|solange|sofern|parce que"
    r"|tant que|à condition|porque|siempre que)\b",
    re.IGNORECASE,
)
"""A clause that begins so tells a cause or a condition of what its main clause says."""

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
_VERB = re.compile(rf"\b{FINITE}", re.IGNORECASE)
_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|en|er|e|s|n)$")
_PARTY = re.compile(r"\wees?$")
"""The ending of one to whom something is done: `employee`, `lessee`."""

_TOKEN = re.compile(r"\S+")
_WITHOUT = re.compile(r"\b(?:without|ohne|sans|sin)\b", re.IGNORECASE)
_AGENT = re.compile(r"\b(?:by|par)\s+((?:[^\W_]+\s*){1,3})", re.IGNORECASE)
_TAKEN_UP = re.compile(
    r"\W*(?:he|she|it|they|this|these|er|sie|es|dies\w*|ils?|elles?|él|ella|ellos|ellas)\b",
    re.IGNORECASE,
)
"""The beginning of a sentence about what the sentence before it names."""

_ELLIPTIC = re.compile(
    rf"(?:\S+\s+){{1,4}}?(?:ne\s.*\bpas|{FINITE}(?:\s+(?:not|nicht))?)\W*", re.IGNORECASE
)
"""A clause with a subject and an auxiliary verb alone: `dogs may not`."""

_LEAST_WORDS, _AROUND = 2, 3
"""Content words that a statement has at least, and words around those that a sentence shares."""

_STEM = 5
"""Two words with this many first letters in common count as forms of one word."""


def akin(word: str, other: str) -> bool:
    """Whether two words are forms of one word."""
    return word == other or (len(word) >= _STEM and word[:_STEM] == other[:_STEM])


def alike(word: str, other: str) -> bool:
    """Whether two words are akin, or the same without common endings: `smoke` and `smoking`.

    It is stricter than `akin` with long words (`compensated`, `competitor`) and with two parties
    (`employer`, `employee`).
    """
    if word == other:
        return True
    if word[:3] != other[:3]:  # most words, at once
        return False
    if _ENDING.sub("", word) == _ENDING.sub("", other):
        return True
    shorter, longer = sorted((len(word), len(other)))
    pairs = enumerate(zip(word, other, strict=False))
    shared = next((at for at, (one, two) in pairs if one != two), shorter)
    if not akin(word, other) or (shared < shorter and 2 * shared < longer):
        return False
    return bool(_PARTY.search(word)) == bool(_PARTY.search(other))


def is_negated(text: str) -> bool:
    """Whether a text has a word of negation, such as `not` or `without`."""
    return _NEGATION.search(text) is not None


def denies(text: str) -> bool:
    """Whether a clause denies: by a negation or by a word such as `forbidden`, and not by both."""
    plain = _LIMITS.sub(" ", text)
    refuses = _REFUSAL.search(_ADJECTIVE.sub(" ", plain)) is not None
    return (_NOT.search(plain) is not None) != refuses


def stance(sentence: str, question: str) -> bool | None:
    """Return whether a sentence says what a question asks; False if it denies it.

    Only the clause with the words of the question counts. It is None for a sentence that does not
    tell: it limits something (`only`) and lacks a word of the question, or it permits what the
    question takes for a duty, or it denies a duty where the question asks for a permission, or it
    tells of an act `by` someone else.

    Args:
        sentence: A sentence with most words of the question.
        question: The question, or a statement.
    """
    if _WITHOUT.search(sentence) and _WITHOUT.search(question):
        sentence, question = _WITHOUT.sub("with", sentence), _WITHOUT.sub("with", question)
    if _differ_in_agent(sentence, question):
        return None
    asked = statement_words(question)
    clauses = [each for each in _CLAUSE.split(sentence) if each.strip()] or [sentence]
    at = _decisive(clauses, asked)
    clause = clauses[at]
    if len(words_in(sentence, asked)) < len(asked) and _ONLY.search(clause):
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
    """Whether a main clause of a passage says what a question asks, or denies it.

    For yes, no word of the question may be in denying clauses alone. The clause has the figures of
    the question, unless the passage lacks them.

    Args:
        question: The question, for yes or no.
        passage: The passage.
        agrees: Whether the answer is yes.
    """
    words = statement_words(question)
    best = _best_sentences(passage, words)
    told = {stance(each, question) for each in best}
    if agrees not in told or (not agrees) in told or _has_other_figures(question, passage, best):
        return False
    return not (agrees and _is_denied_elsewhere(question, passage, words, best[0]))


def _has_other_figures(question: str, passage: str, best: Sequence[str]) -> bool:
    """Whether the best clauses lack a figure of a question, and others have it with its words."""
    missing = {word for word in content_words(question) if is_figure(word)}
    missing -= {word for each in best for word in words_of(each)}
    words = statement_words(question)
    return bool(missing) and any(
        missing & words_of(each) and words_in(each, words) for each in main_clauses(passage)
    )


def _is_denied_elsewhere(question: str, passage: str, words: Collection[str], best: str) -> bool:
    """Whether all sentences with a word of a question that the best sentence lacks deny it."""
    missing = set(words) - set(words_in(best, words))
    if not missing:
        return False
    with_word = (
        [each for each in main_clauses(passage) if words_in(each, [word])] for word in missing
    )
    return any(told and all(stance(each, question) is False for each in told) for told in with_word)


def _differ_in_agent(sentence: str, question: str) -> bool:
    """Whether a sentence and a question both name who an act is done by, and not the same one."""
    told, asked = (
        {word for found in _AGENT.findall(text) for word in content_words(found)}
        for text in (sentence, question)
    )
    return bool(told and asked) and not told & asked


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
    places = [at for at, token in enumerate(tokens) if words_in(token.group(), words)]
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
    shares = bool(rest and words_in(rest, statement_words(question)))
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
    """The sentences of a text that have most of some words, if these are two thirds of them.

    One that begins with a pronoun, or has no predicate, has the words of the sentence before it,
    too. A question of the text states nothing.
    """
    best: list[str] = []
    most, before = 0, ""
    for sentence in main_clauses(text):
        found = 0
        if not sentence.endswith("?") and words_in(sentence, words):
            takes_up = _TAKEN_UP.match(sentence) or _ELLIPTIC.fullmatch(sentence)
            found = len(words_in(f"{before} {sentence}" if takes_up else sentence, words))
        if found > most:
            best, most = [], found
        if found and found == most:
            best.append(sentence)
        before = sentence
    return best if words and 3 * most >= 2 * len(words) else []


def words_in(sentence: str, words: Collection[str]) -> list[str]:
    """Those of some words that a sentence has, or answers with another word of permission."""
    there = words_of(sentence)
    tells = _REFUSAL.search(sentence) or _PERMISSION.search(sentence)
    return [
        word
        for word in words
        if word in there
        or any(alike(word, other) for other in there)
        or (tells and _ALLOWED.fullmatch(word))
    ]


def _decisive(clauses: Sequence[str], asked: Sequence[str]) -> int:
    """Return the index of the last clause with a word of a question that those before it lack."""
    best, known = 0, set[str]()
    for at, clause in enumerate(clauses):
        found = set(words_in(clause, asked))
        if found - known and (not known or not _CIRCUMSTANCE.match(clause)):
            best = at
        known |= found
    return best
