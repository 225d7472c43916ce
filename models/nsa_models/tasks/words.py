"""Words of facts and questions, alternately for training and evaluation."""

from __future__ import annotations

import random

from nsa_models.tasks.example import Split

_LISTS = {
    "first": """Adela Bastian Carola Dmitri Edith Fabian Greta Hamid Ingrid Jasper Katya Lorenz
        Mirela Nestor Odette Piotr Quentin Rosalind Stefan Tamsin Ulrich Verena Wendell Xenia
        Yusuf Zelda Anselm Beatrix Corwin Daphne Emeric Flora Gideon Helga Ivo Jocasta Kasimir
        Leonie Matthias Nadia Oswald Petra Radu Sabine Tobias Ursula Viktor Wilma Arvid Bronwyn
        Cedric Dorothea Elias Fenella Gustav Honora Ishaan Jolanta Kenji Lucinda""",
    "last": """Abernathy Bellweather Castellan Drummond Eastlake Fairweather Grimshaw Hollander
        Iverson Jankowski Kettleworth Lindqvist Marchbanks Nightingale Okonkwo Pemberton
        Quillfeather Rasmussen Silverthorn Tillinghast Underhill Vandermeer Whitlock Yarborough
        Zimmerman Ashdown Blackwood Cartwright Delacroix Ellsworth Featherstone Gallagher Hawthorne
        Ingersoll Jefferies Kowalczyk Lancaster Montague Northcote Osterman Petrovic Ravenscroft
        Santangelo Thistlewood Upchurch Villanueva Wadsworth Yamamoto Zeller Armitage Beauchamp
        Cavendish""",
    "place": """Alderbrook Brindlemoor Carrowmere Dunhaven Eskerdale Fennimore Gallowgate
        Hartsholme Inverlaith Juniperford Kestrelton Lambsgate Marrowby Netherwick Ottervale
        Pennywhistle Quarrington Rookhope Saltmarsh Thornleigh Umberfield Vellenstead Wexcombe
        Yarrowdene Ashminster Birchover Coldharbour Duskwater Elmsworth Foxbarrow Glimmerton
        Heronsgate Ironbridge Jackdaw Kingsallow Larkfell Mistlebury Northolm Oakhampton
        Plumstead Ravenby Stonecross Tidewater Upperlyme Violethill Windlesham Amberley Bramblecote
        Cloverdale Driftwood""",
    "adjective": """amber brazen crimson dappled emerald feathered gilded hollow ivory jagged
        knotted lacquered mottled nimble ochre painted quilted russet scarlet tarnished umber
        velvet woven azure braided copper dusty engraved frosted granite hidden indigo jade
        leaning marbled narrow olive polished ribbed silver twisted violet weathered yellow
        ancient bronze cobalt double""",
    "thing": """anchor barometer candlestick dulcimer easel flagon gramophone hourglass inkwell
        jewelbox kaleidoscope lantern mandolin necklace obelisk pendulum quiver rosette sextant
        tapestry urn vase weathervane xylophone astrolabe bellows compass decanter effigy fiddle
        goblet harpsichord icon jug kettle loom mirror nutcracker oboe parasol sundial
        telescope trumpet umbrella viola wardrobe almanac brooch chandelier drum""",
    "goods": """apricots barley candles daggers eels figs ginger hides indigo juniper kettles
        linen molasses nutmeg olives pepper quills rope saffron timber umbrellas vinegar wool
        almonds beeswax cinnamon dates elderberries flour grapes honey ink jute lemons
        mackerel nails oysters paper raisins salt tea varnish walnuts yarn anchovies buttons
        chestnuts dyes""",
    "animal": """albatross badger caracal dormouse egret falcon gazelle heron ibex jackal
        kingfisher lynx marmot newt otter pelican quail raven stoat tapir urchin viper walrus
        armadillo bison cormorant dolphin ermine ferret goshawk hedgehog iguana jaguar koala
        lemur mongoose nightjar ocelot puffin rabbit salmon tortoise vulture weasel""",
    "month": """January March May July September November February April June August October
        December""",
}


def words(kind: str, split: Split) -> list[str]:
    """Return the words of a kind in a split.

    Raises:
        ValueError: If the kind or the split is unknown.
    """
    if kind not in _LISTS:
        raise ValueError(f"kind is {kind!r}; valid are {sorted(_LISTS)}")
    if split not in ("train", "eval"):
        raise ValueError(f"split is {split!r}; valid are train and eval")
    return _LISTS[kind].split()[0 if split == "train" else 1 :: 2]


def keys(kind: str, count: int, split: Split, rng: random.Random) -> list[str]:
    """Return distinct, similar names of a kind.

    Args:
        kind: `person`, `place`, `thing` or `code`.
        count: Number of names, up to a few hundred.
        split: Split of the words.
        rng: Source of randomness.

    Raises:
        ValueError: If the kind has fewer than `count` names.
    """
    if kind == "code":
        all_keys = [f"{rng.choice('ABCDEFGHJKLMNPQRSTUVWXYZ')}{n}" for n in range(100, 1000)]
    elif kind == "place":
        all_keys = words("place", split)
        ends = ("North", "South", "East", "West", "Upper", "Lower", "Old", "New")
        all_keys = all_keys + [f"{end} {name}" for name in all_keys for end in ends]
    else:
        first, second = {"person": ("first", "last"), "thing": ("adjective", "thing")}[kind]
        all_keys = [f"{a} {b}" for a in words(first, split) for b in words(second, split)]
    if count > len(all_keys):
        raise ValueError(f"kind {kind!r} has {len(all_keys)} names, fewer than {count}")
    return rng.sample(all_keys, count)


def values(
    kind: str, count: int, split: Split, rng: random.Random, *, outside: str = ""
) -> list[str]:
    """Return distinct values of a kind; no value is a substring of another.

    Args:
        kind: `number`, `code`, `word`, `date`, `time` or `person`.
        count: Number of values.
        split: Split of the words.
        rng: Source of randomness.
        outside: A text that must not contain the values.
    """
    unique: dict[str, None] = {}
    while len(unique) < count:
        value = _value(kind, split, rng)
        if value not in outside and not any(value in other or other in value for other in unique):
            unique[value] = None
    return list(unique)


def _value(kind: str, split: Split, rng: random.Random) -> str:
    match kind:
        case "number":
            return str(rng.randrange(10_000, 10_000_000))
        case "code":
            letters = "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=2))
            return f"{letters}-{rng.randrange(100, 1000)}-{rng.choice('ABCDEFGHKMPRSTVX')}"
        case "word":
            return f"{rng.choice(words('adjective', split))} {rng.choice(words('animal', split))}"
        case "date":
            month = rng.choice(words("month", split))
            return f"{rng.randrange(1, 29)} {month} {rng.randrange(1700, 2030)}"
        case "time":
            return f"{rng.randrange(1, 24)}:{rng.randrange(1, 60):02}"
        case "person":
            return f"{rng.choice(words('first', split))} {rng.choice(words('last', split))}"
    raise ValueError(f"kind of values is {kind!r}, which is unknown")
