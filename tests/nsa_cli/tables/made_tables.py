"""Made tables with questions whose answers a plain loop computes from the figures as made."""

from __future__ import annotations

import csv
import datetime
import io
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Rows = list[dict[str, Any]]
Gold = Any
"""A number, a text, or several of these, all of which an answer must give."""


@dataclass(frozen=True)
class Asked:
    """A question about a table.

    Attributes:
        kind: `look-up`, `count`, `sum` or `max`.
        text: The question.
        gold: Computes the answer from the rows.
    """

    kind: str
    text: str
    gold: Callable[[Rows], Gold]


def orders(seed: int = 7, count: int = 200) -> Rows:
    """Orders with regions, dates, amounts in euros, and blanks."""
    draw = random.Random(seed)
    customers = ["Alpha GmbH", "Birch & Sons", "Cobalt Ltd", "Delta Foods", "Elm Street Cafe"]
    customers += ["Fjord AS", "Granite Works", "Harbor Books", "Iris Clinic", "Juno Travel"]
    products = {"Desk": "349.00", "Chair": "129.50", "Lamp": "39.90", "Shelf": "89.00"}
    products |= {"Cabinet": "1249.00", "Monitor": "278.45"}
    rows: Rows = []
    for number in range(count):
        product = draw.choice(list(products))
        price = Decimal(products[product])
        quantity = draw.randint(1, 24)
        discount = draw.choice([None, None, None, 5, 10, 15])
        amount = price * quantity * (100 - (discount or 0)) / 100
        rows.append(
            {
                "Order ID": 1001 + number,
                "Date": datetime.date(2025, 1, 1) + datetime.timedelta(days=draw.randint(0, 364)),
                "Customer": draw.choice(customers),
                "Region": draw.choice(["North", "South", "East", "West"]),
                "Product": product,
                "Quantity": quantity,
                "Unit Price": price,
                "Discount": discount,
                "Amount": amount.quantize(Decimal("0.01")),
                "Status": draw.choice(["shipped", "shipped", "open", "canceled", "returned"]),
                "Sales Rep": draw.choice(["Ana Costa", "Ben Okafor", "Chloe Martin", None]),
            }
        )
    return rows


def orders_csv(rows: Rows) -> str:
    """The orders as a CSV file: `€1,234.50`, `10 %`, and empty cells."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        shown = {
            **row,
            "Unit Price": f"€{row['Unit Price']:,.2f}",
            "Amount": f"€{row['Amount']:,.2f}",
            "Discount": "" if row["Discount"] is None else f"{row['Discount']} %",
            "Sales Rep": row["Sales Rep"] or "",
        }
        writer.writerow(shown.values())
    return out.getvalue()


def _one(rows: Rows, column: str, **where: Any) -> Any:
    [row] = [
        row
        for row in rows
        if all(row[name.replace("_", " ")] == each for name, each in where.items())
    ]
    return row[column]


def _sum(rows: Rows, column: str) -> Any:
    return sum(row[column] for row in rows)


def _mean(rows: Rows, column: str) -> Any:
    return Decimal(_sum(rows, column)) / len(rows)


def _by(rows: Rows, key: str, column: str) -> dict[Any, Any]:
    sums: dict[Any, Any] = defaultdict(int)
    for row in rows:
        sums[row[key]] += row[column]
    return sums


def _most(found: dict[Any, Any]) -> Any:
    return max(found, key=lambda key: found[key])


def _in(rows: Rows, month: int, column: str = "Date") -> Rows:
    return [row for row in rows if row[column].month == month]


def _where(rows: Rows, column: str, value: Any) -> Rows:
    return [row for row in rows if row[column] == value]


ORDERS = (
    Asked(
        "look-up",
        "What is the amount of order 1042?",
        lambda rows: _one(rows, "Amount", Order_ID=1042),
    ),
    Asked(
        "look-up",
        "Which customer placed order 1117?",
        lambda rows: _one(rows, "Customer", Order_ID=1117),
    ),
    Asked(
        "look-up",
        "When was order 1003 placed?",
        lambda rows: str(_one(rows, "Date", Order_ID=1003)),
    ),
    Asked(
        "look-up",
        "What is the status of order 1150?",
        lambda rows: _one(rows, "Status", Order_ID=1150),
    ),
    Asked(
        "look-up",
        "How many units were sold in order 1200?",
        lambda rows: _one(rows, "Quantity", Order_ID=1200),
    ),
    Asked("count", "How many orders are there?", len),
    Asked(
        "count",
        "How many orders came from the West region?",
        lambda rows: len(_where(rows, "Region", "West")),
    ),
    Asked(
        "count",
        "How many orders were canceled in March 2025?",
        lambda rows: len(_where(_in(rows, 3), "Status", "canceled")),
    ),
    Asked(
        "count",
        "How many orders have an amount above 5,000 euros?",
        lambda rows: sum(row["Amount"] > 5000 for row in rows),
    ),
    Asked(
        "count",
        "How many different customers bought a Cabinet?",
        lambda rows: len({row["Customer"] for row in _where(rows, "Product", "Cabinet")}),
    ),
    Asked("sum", "What is the total amount of all orders?", lambda rows: _sum(rows, "Amount")),
    Asked(
        "sum",
        "What is the sum of the amounts in the South?",
        lambda rows: _sum(_where(rows, "Region", "South"), "Amount"),
    ),
    Asked(
        "sum",
        "How many chairs were sold in total?",
        lambda rows: _sum(_where(rows, "Product", "Chair"), "Quantity"),
    ),
    Asked(
        "sum",
        "What is the average amount of an order by Delta Foods?",
        lambda rows: _mean(_where(rows, "Customer", "Delta Foods"), "Amount"),
    ),
    Asked(
        "sum",
        "What was the mean quantity per order in the fourth quarter of 2025?",
        lambda rows: _mean([row for row in rows if row["Date"].month >= 10], "Quantity"),
    ),
    Asked("max", "What is the largest amount?", lambda rows: max(row["Amount"] for row in rows)),
    Asked(
        "max",
        "Which order has the smallest amount?",
        lambda rows: min(rows, key=lambda row: row["Amount"])["Order ID"],
    ),
    Asked(
        "max",
        "Which region has the highest total amount?",
        lambda rows: _most(_by(rows, "Region", "Amount")),
    ),
    Asked(
        "max",
        "Which customer placed the most orders?",
        lambda rows: _most(Counter(row["Customer"] for row in rows)),
    ),
    Asked(
        "max",
        "What is the earliest date of an order that was returned?",
        lambda rows: str(min(row["Date"] for row in _where(rows, "Status", "returned"))),
    ),
)


def invoices(seed: int = 11, count: int = 200) -> Rows:
    """Invoices with German headers."""
    draw = random.Random(seed)
    customers = ["Bäckerei Huber", "Autohaus Krüger", "Müller & Söhne", "Praxis Dr. Weiß"]
    customers += ["Stadtwerke Ulm", "Weingut Lang", "Hotel Adler", "Druckerei Voss"]
    places = ["München", "Köln", "Ulm", "Freiburg", "Würzburg"]
    rows: Rows = []
    for number in range(count):
        net = Decimal(draw.randint(1500, 1850000)) / 100
        rows.append(
            {
                "Rechnungsnummer": 20240001 + number,
                "Rechnungsdatum": datetime.date(2024, 1, 2)
                + datetime.timedelta(days=draw.randint(0, 363)),
                "Kunde": draw.choice(customers),
                "Ort": draw.choice(places),
                "Nettobetrag": net,
                "MwSt-Satz": draw.choice([7, 19]),
                "Stunden": Decimal(draw.randint(2, 160)) / 4,
                "Bezahlt": draw.choice(["ja", "ja", "nein"]),
                "Mahnstufe": draw.choice([None, None, 1, 2]),
            }
        )
    return rows


def german(value: Decimal, decimals: int = 2) -> str:
    """A number in German notation: `1.234,50`."""
    return f"{value:,.{decimals}f}".translate(str.maketrans(",.", ".,"))


def invoices_csv(rows: Rows) -> str:
    """The invoices with semicolons, decimal commas and German dates."""
    lines = [";".join(rows[0])]
    for row in rows:
        cells = [
            str(row["Rechnungsnummer"]),
            f"{row['Rechnungsdatum']:%d.%m.%Y}",
            row["Kunde"],
            row["Ort"],
            f"{german(row['Nettobetrag'])} €",
            f"{row['MwSt-Satz']} %",
            german(row["Stunden"]),
            row["Bezahlt"],
            "" if row["Mahnstufe"] is None else str(row["Mahnstufe"]),
        ]
        lines.append(";".join(cells))
    return "\n".join(lines) + "\n"


INVOICES = (
    Asked(
        "look-up",
        "Wie hoch ist der Nettobetrag der Rechnung 20240057?",
        lambda rows: _one(rows, "Nettobetrag", Rechnungsnummer=20240057),
    ),
    Asked(
        "look-up",
        "Which customer (Kunde) received invoice 20240123?",
        lambda rows: _one(rows, "Kunde", Rechnungsnummer=20240123),
    ),
    Asked(
        "look-up",
        "Welches Rechnungsdatum hat die Rechnungsnummer 20240099?",
        lambda rows: f"{_one(rows, 'Rechnungsdatum', Rechnungsnummer=20240099):%d.%m.%Y}",
    ),
    Asked(
        "count",
        "Wie viele Rechnungen gingen an Kunden in Köln?",
        lambda rows: len(_where(rows, "Ort", "Köln")),
    ),
    Asked(
        "count",
        "Wie viele Rechnungen sind nicht bezahlt?",
        lambda rows: len(_where(rows, "Bezahlt", "nein")),
    ),
    Asked(
        "sum",
        "Wie hoch ist die Summe der Nettobeträge im Mai 2024?",
        lambda rows: _sum(_in(rows, 5, "Rechnungsdatum"), "Nettobetrag"),
    ),
    Asked(
        "sum",
        "What is the average Nettobetrag for Stadtwerke Ulm?",
        lambda rows: _mean(_where(rows, "Kunde", "Stadtwerke Ulm"), "Nettobetrag"),
    ),
    Asked(
        "sum",
        "Wie viele Stunden wurden für das Hotel Adler insgesamt abgerechnet?",
        lambda rows: _sum(_where(rows, "Kunde", "Hotel Adler"), "Stunden"),
    ),
    Asked(
        "max",
        "Welcher Kunde hat den höchsten gesamten Nettobetrag?",
        lambda rows: _most(_by(rows, "Kunde", "Nettobetrag")),
    ),
    Asked(
        "max",
        "What is the lowest Nettobetrag in Freiburg?",
        lambda rows: min(row["Nettobetrag"] for row in _where(rows, "Ort", "Freiburg")),
    ),
)
"""Written before the rules were first run on this table."""


def penguins(text: str) -> Rows:
    """The rows of the public table of penguins."""
    rows: Rows = []
    for row in csv.DictReader(io.StringIO(text)):
        rows.append({name: None if cell == "NA" else cell for name, cell in row.items()})
    return rows


def _floats(rows: Rows, column: str) -> list[Decimal]:
    return [Decimal(row[column]) for row in rows if row[column] is not None]


PENGUINS = (
    Asked("count", "How many penguins are there?", len),
    Asked(
        "count",
        "How many Adelie penguins live on Dream island?",
        lambda rows: len(_where(_where(rows, "species", "Adelie"), "island", "Dream")),
    ),
    Asked(
        "count",
        "How many female penguins were recorded in 2008?",
        lambda rows: len(_where(_where(rows, "sex", "female"), "year", "2008")),
    ),
    Asked(
        "count",
        "How many penguins weigh more than 5,000 g?",
        lambda rows: sum(each > 5000 for each in _floats(rows, "body_mass_g")),
    ),
    Asked(
        "sum",
        "What is the average body mass of Gentoo penguins?",
        lambda rows: (
            sum(mass := _floats(_where(rows, "species", "Gentoo"), "body_mass_g")) / len(mass)
        ),
    ),
    Asked(
        "sum",
        "What is the mean bill length of male Chinstrap penguins?",
        lambda rows: (
            sum(
                found := _floats(
                    _where(_where(rows, "species", "Chinstrap"), "sex", "male"), "bill_length_mm"
                )
            )
            / len(found)
        ),
    ),
    Asked(
        "max",
        "What is the longest flipper length?",
        lambda rows: max(_floats(rows, "flipper_length_mm")),
    ),
    Asked(
        "max",
        "Which island has the most penguins?",
        lambda rows: _most(Counter(row["island"] for row in rows)),
    ),
    Asked(
        "max",
        "What is the smallest bill depth of the penguins on Torgersen?",
        lambda rows: min(_floats(_where(rows, "island", "Torgersen"), "bill_depth_mm")),
    ),
    Asked(
        "max",
        "Which species has the lowest average body mass?",
        lambda rows: min(
            (sum(mass := _floats(_where(rows, "species", name), "body_mass_g")) / len(mass), name)
            for name in {row["species"] for row in rows}
        )[1],
    ),
)
"""Written before the rules were first run on this table."""
