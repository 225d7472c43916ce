"""Words that belong to numbers, in the languages of the suite, in lower case without accents."""

from __future__ import annotations

from decimal import Decimal


def _all(text: str) -> dict[str, str]:
    """Map each word of `unit: word, word; unit: …` to its unit."""
    rows = (row.split(":") for row in text.split(";"))
    return {word.strip(): unit.strip() for unit, words in rows for word in words.split(",")}


SCALES = {
    word: Decimal(10) ** int(power)
    for word, power in _all(
        "2: hundred, hundert, cent, 百;"
        "3: thousand, thousands, k, tsd, tausend, mille, mil, mila, 千;"
        "4: 万;"
        "6: million, millions, m, mn, mio, millionen, millones, milione, milioni, 百万;"
        "8: 億, 亿;"
        "9: billion, billions, bn, b, mrd, milliarde, milliarden, milliard, milliards, miliardo,"
        "miliardi;"
        "12: trillion, trillions, tn, bio, 兆"
    ).items()
}
"""Factors that follow a number."""

UNITS = _all(
    "percent: %, percent, pct, prozent, percento, per cent, pour cent, por ciento, per cento;"
    "points: percentage points, percentage point, pp, prozentpunkte, prozentpunkten;"
    "second: second, seconds, sec, secs, sekunde, sekunden, seconde, secondes, segundo, segundos,"
    "secondo, secondi, 秒;"
    "minute: minute, minutes, min, mins, minuten, minuto, minutos, minuti, 分;"
    "hour: hour, hours, hrs, stunde, stunden, heure, heures, hora, horas, ora, ore, 時間;"
    "day: day, days, tag, tage, tagen, jour, jours, dia, dias, giorno, giorni, 日, 天;"
    "week: week, weeks, woche, wochen, semaine, semaines, semana, semanas, settimana, settimane,"
    "週;"
    "month: month, months, monat, monate, monaten, mois, mes, meses, mese, mesi, 月;"
    "year: year, years, yr, yrs, jahr, jahre, jahren, an, ans, annee, annees, ano, anos, anno,"
    "anni, 年;"
    "byte: byte, bytes; kb: kb, kilobyte, kilobytes; kib: kib; mb: mb, megabyte, megabytes;"
    "mib: mib; gb: gb, gigabyte, gigabytes; gib: gib; tb: tb, terabyte, terabytes;"
    "bit: bit, bits; mbit: mbit, mbps; gbit: gbit, gbps;"
    "km: km, kilometer, kilometers, kilometre, kilometres; cm: cm, centimeters, centimetres;"
    "meter: meter, meters, metre, metres, metern, metros, metri; inch: inch, inches;"
    "foot: foot, feet; mile: mile, miles;"
    "kg: kg, kilogram, kilograms; gram: gram, grams; tonne: tonne, tonnes, tonnen;"
    "kwh: kwh; mwh: mwh; gwh: gwh; kw: kw; mw: mw; gw: gw;"
    "volt: v, volt, volts; ma: ma; ohm: ω, ohm, ohms; kohm: kω, kohm; mohm: mω;"
    "mm: mm; µm: μm; ms: ms, milliseconds; µs: μs; ns: ns; ml: ml; liter: liter, liters, litre;"
    "hz: hz; khz: khz; mhz: mhz; ghz: ghz"
)
"""Units that follow a number, by what they are called."""

CURRENCIES = _all(
    "usd: $, usd, dollar, dollars; eur: €, eur, euro, euros; gbp: £, gbp, pound, pounds;"
    "jpy: ¥, jpy, yen, 円; chf: chf, franken; cny: cny, rmb, yuan; inr: inr, rupees"
)
"""Currencies that precede or follow a number."""

NUMBERS = {
    word: number
    for number, words in enumerate(
        (
            *("zero", "one", "two zwei deux dos", "three drei trois tres tre"),
            *("four vier quatre cuatro quattro", "five funf cinq cinco cinque", "six sechs seis"),
            *("seven sieben sept siete sette", "eight acht huit ocho otto", "nine neun nueve nove"),
            *("ten zehn dix diez dieci", "eleven elf onze", "twelve zwolf douze doce dodici"),
            *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
        )
    )
    for word in words.split()
}
TENS = frozenset(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"])
NUMBERS |= {
    word: 10 * number
    for number, word in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    )
}
"""Numbers that are written out; words that mean something else in English are not among them."""

MONTHS = {
    word: number
    for number, words in enumerate(
        (
            *("january jan januar janvier enero gennaio", "february feb februar fevrier febrero"),
            *("march mar marz mars marzo", "april apr avril abril aprile", "may mai mayo maggio"),
            *("june jun juni juin junio giugno", "july jul juli juillet julio luglio"),
            *("august aug aout agosto", "september sep sept septembre septiembre settembre"),
            *("october oct oktober octobre octubre ottobre",),
            *("november nov novembre noviembre", "december dec dezember decembre diciembre"),
        ),
        start=1,
    )
    for word in words.split()
}
"""Months by name."""

LABELS = frozenset(
    (
        *("section", "sections", "clause", "article", "chapter", "paragraph", "rule", "part"),
        *("table", "figure", "annex", "appendix", "note", "item", "version", "release", "v"),
        *("abschnitt", "kapitel", "artikel", "ziffer", "seccion", "sezione", "chapitre"),
    )
)
"""Words before a number that is a label: 4.1 is not 4.10 there."""
