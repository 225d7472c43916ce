"""Templates of facts: sentences with a key and a value, and questions for the value."""

from __future__ import annotations

from dataclasses import dataclass

from nsa_models.tasks.example import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A template of facts with the placeholders `{key}` and `{value}`.

    Attributes:
        key: Kind of the keys, see `words.keys`.
        value: Kind of the values, see `words.values`.
        says: Sentences that state the fact.
        asks: Questions for the value of a key.
        asks_all: Questions for all values of a key with several.
    """

    key: str
    value: str
    says: tuple[str, ...]
    asks: tuple[str, ...]
    asks_all: tuple[str, ...]


_NAMED = {"person": "{key}", "place": "{key}", "thing": "the {key}", "code": "unit {key}"}
"""Form of a key in sentences about its attributes, by kind."""

_ATTRIBUTES = (
    ("account number", "person", "number"),
    ("population", "place", "number"),
    ("serial number", "thing", "number"),
    ("token", "code", "number"),
    ("licence plate", "person", "code"),
    ("postal code", "place", "code"),
    ("shelf mark", "thing", "code"),
    ("nickname", "person", "word"),
    ("emblem", "place", "word"),
    ("birthday", "person", "date"),
    ("market day", "place", "date"),
    ("day of purchase", "thing", "date"),
    ("inspection day", "code", "date"),
    ("tutor", "person", "person"),
    ("mayor", "place", "person"),
    ("keeper", "thing", "person"),
    ("operator", "code", "person"),
    ("closing time", "place", "time"),
    ("time of arrival", "person", "time"),
)
"""Attributes for training: name, kind of key, kind of value."""


def _of_attribute(attribute: str, key: str, value: str) -> Fact:
    named = _NAMED[key]
    return Fact(
        key=key,
        value=value,
        says=(
            f"The {attribute} of {named} is {{value}}.",
            f"For {named} the {attribute} is {{value}}.",
            f"Note that {named} has {{value}} as {attribute}.",
            f"As {attribute} of {named}, {{value}} was written down.",
        ),
        asks=(
            f"What is the {attribute} of {named}?",
            f"Say the {attribute} of {named}.",
            f"Which {attribute} does {named} have?",
        ),
        asks_all=(
            f"Name every {attribute} of {named}.",
            f"What is each {attribute} that {named} has?",
        ),
    )


_TRAIN = (
    *(_of_attribute(*each) for each in _ATTRIBUTES),
    Fact(
        key="place",
        value="number",
        says=(
            "The access code of the depot in {key} is {value}.",
            "Whoever opens the depot in {key} types the access code {value}.",
            "At the depot in {key} the access code was set to {value}.",
        ),
        asks=(
            "What is the access code of the depot in {key}?",
            "Which access code opens the depot in {key}?",
            "Tell me the code for the depot in {key}.",
        ),
        asks_all=(
            "What are all the access codes of the depot in {key}?",
            "Which access codes open the depot in {key}? Give all of them.",
        ),
    ),
    Fact(
        key="person",
        value="code",
        says=(
            "{key} parks in bay {value}.",
            "Bay {value} is kept free for {key}.",
            "The attendant wrote down that {key} uses bay {value}.",
        ),
        asks=(
            "Which bay does {key} use?",
            "Where does {key} park?",
            "What is the bay of {key}?",
        ),
        asks_all=(
            "Which bays does {key} use? Give all of them.",
            "Name every bay that is kept for {key}.",
        ),
    ),
    Fact(
        key="thing",
        value="person",
        says=(
            "The {key} was restored by {value}.",
            "It was {value} who restored the {key}.",
            "According to the workshop, {value} restored the {key}.",
        ),
        asks=(
            "Who restored the {key}?",
            "By whom was the {key} restored?",
            "What is the name of the restorer of the {key}?",
        ),
        asks_all=(
            "Which people restored the {key}? Name all of them.",
            "Who are all the restorers of the {key}?",
        ),
    ),
    Fact(
        key="code",
        value="word",
        says=(
            "The watchword for gate {key} is {value}.",
            "Gate {key} opens to the watchword {value}.",
            "Guards at gate {key} expect the watchword {value}.",
        ),
        asks=(
            "What is the watchword for gate {key}?",
            "Which watchword do guards at gate {key} expect?",
            "To which watchword does gate {key} open?",
        ),
        asks_all=(
            "What are all the watchwords for gate {key}?",
            "Which watchwords open gate {key}? List them all.",
        ),
    ),
    Fact(
        key="place",
        value="date",
        says=(
            "The bridge at {key} was opened on {value}.",
            "On {value} the bridge at {key} was opened.",
            "The opening of the bridge at {key} took place on {value}.",
        ),
        asks=(
            "When was the bridge at {key} opened?",
            "On which date was the bridge at {key} opened?",
            "What is the opening date of the bridge at {key}?",
        ),
        asks_all=(
            "On which dates was the bridge at {key} opened? Give all of them.",
            "List every date on which the bridge at {key} was opened.",
        ),
    ),
    Fact(
        key="person",
        value="time",
        says=(
            "The train of {key} leaves at {value}.",
            "{key} takes the train that leaves at {value}.",
            "At {value} the train with {key} on board leaves.",
        ),
        asks=(
            "When does the train of {key} leave?",
            "At what time does {key} leave by train?",
            "Which departure time has the train of {key}?",
        ),
        asks_all=(
            "At which times do the trains of {key} leave? Give all of them.",
            "List all departure times of the trains that {key} takes.",
        ),
    ),
    Fact(
        key="thing",
        value="number",
        says=(
            "The {key} is listed in the catalogue under number {value}.",
            "Catalogue number {value} stands for the {key}.",
            "In the catalogue the {key} has number {value}.",
        ),
        asks=(
            "Under which catalogue number is the {key} listed?",
            "What is the catalogue number of the {key}?",
            "Which number does the {key} have in the catalogue?",
        ),
        asks_all=(
            "Under which catalogue numbers is the {key} listed? Give all of them.",
            "What are all the catalogue numbers of the {key}?",
        ),
    ),
)
_EVAL = (
    Fact(
        key="place",
        value="number",
        says=(
            "The safe at the post office of {key} opens with {value}.",
            "Turn the dial to {value} for the safe at the post office of {key}.",
        ),
        asks=(
            "Which combination opens the safe at the post office of {key}?",
            "What is the combination of the safe at the post office of {key}?",
        ),
        asks_all=(
            "Which combinations open the safe at the post office of {key}? List all of them.",
            "What are all the combinations of the safe at the post office of {key}?",
        ),
    ),
    Fact(
        key="person",
        value="code",
        says=(
            "The locker assigned to {key} is {value}.",
            "{key} keeps a coat in locker {value}.",
        ),
        asks=(
            "What is the locker of {key}?",
            "In which locker does {key} keep things?",
        ),
        asks_all=(
            "Which lockers does {key} have? List all of them.",
            "What are all the lockers of {key}?",
        ),
    ),
    Fact(
        key="thing",
        value="person",
        says=(
            "The {key} now belongs to {value}.",
            "At the auction {value} bought the {key}.",
        ),
        asks=(
            "Who owns the {key}?",
            "To whom does the {key} belong?",
        ),
        asks_all=(
            "Which people own the {key}? List all of them.",
            "Who are all the owners of the {key}?",
        ),
    ),
    Fact(
        key="code",
        value="word",
        says=(
            "Station {key} uses the call sign {value}.",
            "The call sign of station {key} is {value}.",
        ),
        asks=(
            "What is the call sign of station {key}?",
            "Which call sign does station {key} use?",
        ),
        asks_all=(
            "What are all the call signs of station {key}?",
            "Which call signs does station {key} use? List all of them.",
        ),
    ),
    Fact(
        key="place",
        value="date",
        says=(
            "The lighthouse of {key} was first lit on {value}.",
            "On {value} the lighthouse of {key} was lit for the first time.",
        ),
        asks=(
            "When was the lighthouse of {key} first lit?",
            "On what day was the lighthouse of {key} lit for the first time?",
        ),
        asks_all=(
            "On which days was the lighthouse of {key} lit? List all of them.",
            "What are all the days on which the lighthouse of {key} was lit?",
        ),
    ),
)


def facts(split: Split) -> tuple[Fact, ...]:
    """Return the templates of a split.

    Raises:
        ValueError: If the split is unknown.
    """
    if split not in ("train", "eval"):
        raise ValueError(f"split is {split!r}; valid are train and eval")
    return _TRAIN if split == "train" else _EVAL
