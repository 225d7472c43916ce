"""Words of questions about tables, in English and German, and what they mean."""

from __future__ import annotations

from nsa_cli.tables.words import stem_set, word_set

ROLES: dict[str, tuple[str, ...]] = {
    "count": (
        *("how many", "number of", "the number of", "count of", "how often", "how many times"),
        *("count", "wie viele", "wieviele", "wie oft", "anzahl", "anzahl der", "anzahl von"),
    ),
    "sum": (
        *("sum", "sum of", "total", "totals", "totaled", "totalled", "in total", "altogether"),
        *("combined", "add up", "summe", "gesamt", "gesamte", "gesamten", "gesamter", "gesamtes"),
        *("insgesamt", "zusammen", "gesamtsumme", "grand total", "overall", "sum up"),
    ),
    "amount": ("how much", "wie viel", "wieviel"),
    "mean": (
        *("average", "averages", "mean", "avg", "on average", "durchschnitt", "im durchschnitt"),
        *("durchschnittlich", "durchschnittliche", "durchschnittlichen", "durchschnittlicher"),
        *("mittelwert", "im schnitt", "im mittel", "arithmetic mean"),
    ),
    "median": ("median",),
    "max": (
        *("highest", "largest", "biggest", "greatest", "maximum", "max", "maximal", "top"),
        *("hochste", "hochsten", "hochster", "hochstes", "grosste", "grossten", "grosster"),
        *("grosstes", "maximale", "maximalen", "highest paid", "longest", "langste", "langsten"),
        *("heaviest", "schwerste", "schwersten", "tallest"),
    ),
    "min": (
        *("lowest", "smallest", "minimum", "min", "least", "niedrigste", "niedrigsten"),
        *("niedrigster", "niedrigstes", "kleinste", "kleinsten", "kleinster", "kleinstes"),
        *("geringste", "geringsten", "minimale", "minimalen", "shortest", "kurzeste", "kurzesten"),
        *("lightest", "leichteste", "leichtesten"),
    ),
    "heavy": ("heaviest", "lightest", "schwerste", "schwersten", "leichteste", "leichtesten"),
    "long": ("longest", "shortest", "langste", "langsten", "kurzeste", "kurzesten", "tallest"),
    "dearest": ("most expensive", "priciest", "costliest", "teuerste", "teuersten", "teuerster"),
    "cheapest": (
        *("cheapest", "least expensive", "billigste", "billigsten", "gunstigste", "gunstigsten"),
    ),
    "latest": (
        *("latest", "newest", "most recent", "last", "spateste", "spatesten"),
        *("neueste", "neuesten", "letzte", "letzten", "letzter", "most recently"),
    ),
    "earliest": (
        *("earliest", "first", "fruheste", "fruhesten", "erste"),
        *("ersten", "erster"),
    ),
    "oldest": ("oldest", "alteste", "altesten", "altester"),
    "youngest": ("youngest", "jungste", "jungsten", "jungster"),
    "age": ("older than", "younger than", "alter als", "junger als"),
    "most": (
        *("most", "most often", "most frequently", "most common", "most frequent"),
        *("am haufigsten", "die meisten", "meisten", "haufigste", "haufigsten", "am meisten"),
    ),
    "fewest": (
        *("fewest", "least", "least often", "least common", "least frequent", "am seltensten"),
        *("die wenigsten", "wenigsten", "am wenigsten"),
    ),
    "distinct": (
        *("distinct", "different", "unique", "various", "verschiedene", "verschiedenen"),
        *("unterschiedliche", "unterschiedlichen"),
    ),
    "share": (
        *("percentage of", "what percentage", "percent of", "share of", "proportion of"),
        *("what share", "what proportion", "what fraction", "fraction of", "what percent"),
        *("anteil", "wie viel prozent", "prozentsatz", "percentage", "wieviel prozent"),
    ),
    "unknown": (
        *("difference", "ratio", "growth", "grew", "grow", "increase", "increased", "decrease"),
        *("decreased", "trend", "correlation", "correlate", "deviation", "variance", "change"),
        *("changed", "compare", "compared", "percentile", "quartile", "mode", "range of"),
        *("cumulative", "running total", "forecast", "predict", "unterschied", "differenz"),
        *("verhaltnis", "wachstum", "streuung", "standardabweichung", "twice", "doubled"),
    ),
    "by": ("per", "by", "for each", "in each", "of each", "for every", "each", "every", "je"),
    "by_german": ("pro", "nach", "fur jede", "fur jeden", "fur jedes", "jede", "jeder", "jedes"),
    "which": (
        *("which", "what", "who", "whose", "list", "show", "name", "give", "welche", "welcher"),
        *("welches", "welchen", "wer", "was", "nenne", "zeige", "liste", "wessen", "welchem"),
    ),
    "when": ("when", "wann", "on which day", "on what date", "on which date", "what day"),
    "where": ("where", "wo"),
    "not": (
        *("not", "except", "except for", "excluding", "outside", "outside of", "other than"),
        *("isn't", "aren't", "wasn't", "weren't", "nicht", "ausser", "ausserhalb", "isn t"),
        *("aren t", "wasn t", "weren t", "but not", "apart from"),
    ),
    "without": (
        *("without", "with no", "have no", "has no", "had no", "missing", "lack", "lacks"),
        *("without a", "without any", "do not have", "does not have", "ohne", "lacking"),
        *("don t have", "doesn t have", "no", "kein", "keine", "keinen", "out of"),
    ),
    "blank": ("blank", "empty", "missing", "not given", "leer", "not filled"),
    "with": ("with a", "with an", "have a", "has a", "had a"),
    "gt": (
        *("more than", "greater than", "larger than", "higher than", "bigger than", "above"),
        *("over", "exceeding", "exceeds", "exceed", "exceeded", ">", "mehr als", "uber"),
        *("grosser als", "hoher als", "oberhalb", "oberhalb von", "upwards of", "in excess of"),
        *("longer than", "heavier than", "older than", "alter als"),
    ),
    "ge": (
        *("at least", "no less than", "not less than", "minimum of", ">=", "≥", "mindestens"),
        *("from",),
    ),
    "lt": (
        *("less than", "below", "under", "fewer than", "smaller than", "lower than"),
        *("cheaper than", "<", "weniger als", "unter", "kleiner als", "unterhalb", "shorter than"),
        *("unterhalb von", "younger than", "junger als"),
    ),
    "le": (
        *("at most", "no more than", "not more than", "up to", "<=", "≤", "hochstens"),
        *("maximal", "bis zu", "not exceeding"),
    ),
    "after": ("after", "later than", "nach dem"),
    "since": ("since", "from", "seit", "ab", "ab dem", "starting"),
    "before": ("before", "earlier than", "prior to", "vor", "vor dem"),
    "until": ("until", "till", "through", "up to", "bis", "bis zum"),
    "between": ("between", "zwischen"),
    "and": ("and", "or", "und", "oder", "nor", "to", "&", "bis"),
    "or more": (
        "or more",
        "or above",
        "or higher",
        "and above",
        "and more",
        "oder mehr",
        "or over",
    ),
    "or less": ("or less", "or below", "or lower", "or fewer", "and below", "oder weniger"),
}
"""Phrases by their role, folded as `words.folded` does."""

PHRASES: dict[tuple[str, ...], tuple[str, ...]] = {}
"""Roles of each phrase."""

for _role, _phrases in ROLES.items():
    for _phrase in _phrases:
        _key = tuple(_phrase.split())
        PHRASES[_key] = (*PHRASES.get(_key, ()), _role)

LONGEST = max(map(len, PHRASES))

NUMBERS = {
    word: number
    for number, words in enumerate(
        (
            *("one ein eine einen", "two zwei", "three drei", "four vier", "five funf"),
            *("six sechs", "seven sieben", "eight acht", "nine neun", "ten zehn"),
        ),
        start=1,
    )
    for word in words.split()
}
"""Number words in English and German."""

QUARTERS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "1st": 1, "2nd": 2, "3rd": 3}
QUARTERS |= {"4th": 4, "ersten": 1, "zweiten": 2, "dritten": 3, "vierten": 4}

FUNCTION_WORDS = word_set(
    "a an the of in on at for to from with by is are was were be been being do does did have "
    "has had it its they them their there this that these those all any as and or so if we "
    "our us i me my you your he she his her him can could please tell will would should than "
    "then only just exactly about into within during here itself also still ever up der "
    "die das den dem des ein eine einen einem einer eines im am auf aus bei mit von vom zu "
    "zum zur fur ist sind war waren wird wurde wurden hat haben hatte hatten es sie er und "
    "oder alle allen aller bitte gibt gab als dass davon dabei wie hoch gross viel um ihr "
    "ihre sich auch nur genau value values worth wert werte place placed places make made "
    "makes come comes came belong belongs go goes went take took taken get gets got show "
    "shows shown contain contains contained include includes included hold holds held find "
    "found appear appears occur occurs occurred happen happened exist exists say says said "
    "read called named equal equals equaling equalling know done see calculate compute "
    "determine much aufgegeben gemacht getatigt kommen kommt kam gehort gehoren enthalt "
    "lautet heisst betragt betrug liegt lag fiel entfallen entfallt erzielt"
)
"""Folded words that change nothing about what is asked, and never mean a value."""

TABLE_WORDS = word_set(
    "row rows record records entry entries line lines table tables file sheet column csv data "
    "dataset list listed recorded figure figures field cell cells zeile zeilen zeigen "
    "datensatz datensatze eintrag eintrage tabelle datei spalte liste steht stehen zeigt"
)
"""Folded words for tables, which change nothing unless they are counted or are values."""

NEUTRAL = FUNCTION_WORDS | TABLE_WORDS
"""Folded words that change nothing about what is asked of a table."""

NEUTRAL_STEMS = stem_set(
    "store keep kept locate base live fell fall fallen sell sold buy bought receive receives "
    "send sent weigh weighs weighed measure earn "
    "spend spent bring brought generate achieve reach work play produce use book bill charge "
    "purchase acquire give gave given observe collect register stay visit serve belong carry "
    "cover consume cost own need want offer provide supply represent handle manage process "
    "issue report run ran transact invoiced ordered "
    "amounting geht ging gingen gegangen lebt leben lebten wohnt wohnen verkauft verkauften "
    "gekauft kaufte kauften bestellt bestellte bestellten abgerechnet berechnet erhielt "
    "erhielten erhalten bekam bekamen geschickt verdient ausgegeben kostet kosten wiegt "
    "wiegen arbeitet arbeiten gemessen erfasst gestellt ausgestellt stammt stammen nutzt "
    "verbraucht entstanden angefallen geleistet wurden betragen pay pays paid paying bezahlt "
    "bezahlen bezahlte gezahlt zahlte zahlten zahlen zahlt"
)
"""Stems of verbs that only join the parts of a question."""

ROW_NOUNS = stem_set(
    "row record entry line transaction item zeile datensatz eintrag posten case observation "
    "datensatze"
)
"""Stems of words for a row of any table."""

PERSONS = stem_set(
    "customer client name employee person author manager owner seller buyer rep "
    "representative agent player student member user patient contact salesperson supplier "
    "vendor kunde mitarbeiter verkaufer lieferant company assignee teacher winner"
)
"""Stems of columns that `who` may mean."""

PLACES = stem_set(
    "city country place location region address state site store stadt land ort standort "
    "office warehouse branch filiale"
)
"""Stems of columns that `where` may mean."""

MONEY = stem_set(
    "amount revenue sales turnover price cost total value payment betrag umsatz preis kosten "
    "summe salary gehalt fee income budget spend spending spent paid expense wert erlos net"
)
"""Stems of words for amounts of money."""

AMOUNTS = stem_set(
    "amount revenue sales turnover total value payment betrag umsatz summe nettobetrag "
    "bruttobetrag gesamtbetrag rechnungsbetrag"
)
"""Stems of columns that an order, an invoice or a payment is large or small by."""

PRICES = stem_set("price cost preis einzelpreis fee kosten")
"""Stems of columns that a thing is dear or cheap by."""

BIRTH = stem_set("birth born birthday geburt geburtsdatum geburtstag")
"""Stems of words for dates of birth."""

SIZES = {
    "heavy": stem_set("weight mass gewicht masse"),
    "long": stem_set("length height duration distance time lange hohe dauer entfernung strecke"),
}
"""Stems of columns that rows are heavy or long by."""

AGES = stem_set("age alter")
"""Stems of columns that persons are old or young by."""

QUANTITY = stem_set("quantity qty units pieces menge stuck stuckzahl")
"""Stems of words for how many pieces a row is about."""

SYNONYMS = tuple(
    stem_set(words)
    for words in (
        "customer client buyer kunde",
        "amount revenue sales turnover value spend spent spending betrag umsatz money",
        "price cost preis kosten kostet",
        "quantity qty units pieces menge stuck stuckzahl anzahl",
        "salary wage pay earn gehalt lohn verdient",
        "employee staff mitarbeiter",
        "date day datum tag",
        "id number no nr nummer",
        "city town stadt ort",
        "country land nation",
        "product item article produkt artikel",
        "supplier vendor lieferant",
        "department division abteilung",
        "category type kind kategorie typ art",
        "discount rebate rabatt",
        "representative rep salesperson verkaufer",
        "region area gebiet",
        "population inhabitants einwohner",
        "weight mass weigh gewicht masse",
        "birth born birthday geburt geboren geburtsdatum",
        "invoice bill rechnung",
        "order purchase bestellung auftrag",
        "hire hired join joined start eintritt",
    )
)
"""Groups of words of which each may mean a column that has another as its name."""
