"""Answers about tables: figures, citations, refusals, and what goes to the model.

`penguins.csv` is the public table of Palmer penguins (CC0, from the package palmerpenguins 0.1.6).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsa_cli.documents import Document
from nsa_cli.documents.build import join_documents
from nsa_cli.documents.load import parse_document
from nsa_cli.tables.answer import Computed, compute
from nsa_cli.tables.numbers import parse_number
from tests.nsa_cli.tables import made_tables as made

PENGUINS_CSV = (Path(__file__).parent / "penguins.csv").read_text()
ORDERS = made.orders()
INVOICES = made.invoices()
PENGUINS = made.penguins(PENGUINS_CSV)
ORDERS_DOCUMENT = parse_document("orders.csv", made.orders_csv(ORDERS).encode())
CASES = [
    *((ORDERS_DOCUMENT, ORDERS, asked) for asked in made.ORDERS),
    *(
        (parse_document("rechnungen.csv", made.invoices_csv(INVOICES).encode()), INVOICES, asked)
        for asked in made.INVOICES
    ),
    *(
        (parse_document("penguins.csv", PENGUINS_CSV.encode()), PENGUINS, asked)
        for asked in made.PENGUINS
    ),
]


def figure(found: Computed) -> str:
    """The answer without the words about it."""
    return found.text.partition(" (")[0]


def is_right(text: str, gold: Any) -> bool:
    """Whether an answer gives a number, to the second decimal, or a text."""
    if not isinstance(gold, int | Decimal):
        return str(gold).casefold() in text.casefold()
    found = (parse_number(each) for each in re.findall(r"\d[\d.,]*\d|\d", text))
    return any(n is not None and abs(n.value - Decimal(gold)) <= Decimal("0.006") for n in found)


def table(text: str, name: str = "table.csv") -> Document:
    return parse_document(name, text.encode())


def ask(text: str, question: str) -> Computed:
    found = compute(table(text), question)
    assert found is not None
    return found


@pytest.mark.parametrize(("document", "rows", "asked"), CASES, ids=[c[2].text for c in CASES])
def test_a_question_is_answered(document: Document, rows: made.Rows, asked: made.Asked) -> None:
    found = compute(document, asked.text)
    assert found is not None
    assert found.computation.refused is None, found.text
    assert is_right(figure(found), asked.gold(rows)), (found.text, asked.gold(rows))


@pytest.mark.parametrize(("document", "rows", "asked"), CASES, ids=[c[2].text for c in CASES])
def test_its_citations_are_lines_of_the_file(
    document: Document, rows: made.Rows, asked: made.Asked
) -> None:
    found = compute(document, asked.text)
    assert found is not None
    assert found.citations
    for citation in found.citations:
        row = rows[citation.line_start - 2]  # the header is line 1
        first = str(next(iter(row.values())))
        assert f": {first} |" in f"{citation.quote} |"
        assert citation.quote in document.text
        assert citation.verified
        if citation.column is not None:
            assert citation.column in row


def test_an_extreme_is_cited_by_the_row_that_holds_it() -> None:
    found = compute(ORDERS_DOCUMENT, "What is the largest amount?")
    assert found is not None
    [citation] = found.citations
    largest = max(ORDERS, key=lambda row: row["Amount"])
    assert citation.line_start == ORDERS.index(largest) + 2
    assert citation.column == "Amount"
    assert f"Amount: €{largest['Amount']:,.2f}" in citation.quote
    assert "over 200 rows in orders.csv" in found.text


def test_the_first_and_the_last_of_many_rows_are_cited() -> None:
    found = compute(ORDERS_DOCUMENT, "How many orders came from the West?")
    assert found is not None
    west = [n for n, row in enumerate(ORDERS, start=2) if row["Region"] == "West"]
    assert [each.line_start for each in found.citations] == [west[0], west[-1]]
    assert found.text == f"{len(west)} (count of rows where Region is West in orders.csv)"
    assert found.computation.value == found.computation.rows == len(west)


def test_blank_cells_are_left_out_and_told() -> None:
    found = compute(ORDERS_DOCUMENT, "What is the average discount?")
    assert found is not None
    blanks = sum(row["Discount"] is None for row in ORDERS)
    assert f"{blanks} blank cells left out" in found.text
    assert found.computation.rows == 200 - blanks


REFUSED = {
    "What is the total profit?": "there is no column or value for “profit”",
    "How many orders were refunded?": "there is no column or value for “refunded”",
    "What is the amount of order 9999?": "no row has 9999 as its Order ID",
    "How many orders were above 500 USD?": "Amount is in EUR, not in USD",
    "What is the growth of the amount?": "not “growth”",
    "How many customers have more than 20 orders?": "compares a count of rows",
    "What is the average number of orders per customer?": "means of counts",
    "What is the average customer?": "unclear what “customer” asks for",
    "How many orders have more than 4?": "“4” may compare Quantity, Unit Price, Discount",
    "Which sales rep sold the most?": "does not name what is compared",
    "What is the average amount per warehouse?": "“warehouse”",
    "How many orders were placed in the West or by Delta Foods?": "values of one column with “or”",
    "What percentage of the West orders is open?": "of which rows the others are a share",
    "What is the quantity of desks and the total quantity of chairs?": "several values of Product",
    "How many orders between 1010 and 1020?": "“1010” may compare",
    "What is the second largest amount?": "“second”",
    "What is the total amount of orders larger than the average?": "“larger than”",
    "What is the highest and the lowest amount?": "the greatest and the least",
    "How many orders were placed on Mondays?": "“Mondays”",
    "What is the total amount before discount?": "“discount”",
    "How many customers did not order in March?": "“not”",
    "How many books are there?": "“books”",
}


@pytest.mark.parametrize("question", REFUSED)
def test_what_cannot_be_computed_is_refused(question: str) -> None:
    found = compute(ORDERS_DOCUMENT, question)
    assert found is not None
    assert found.text.startswith("Not computed: ")
    assert REFUSED[question] in found.text, found.text
    assert found.computation.value is None
    assert found.computation.refused
    assert not found.citations


@pytest.mark.parametrize(
    "question",
    [
        "Why was order 1042 canceled?",
        "Summarize this file",
        "What does this file contain?",
        "Who handled order 1099?",
        "Tell me about order 1042",
        "Did order 1042 ship?",
        "What is this?",
        "",
    ],
)
def test_other_questions_are_left_to_the_model(question: str) -> None:
    assert compute(ORDERS_DOCUMENT, question) is None


def _sum(column: str = "Amount", **where: Any) -> Decimal:
    names = {name.replace("_", " "): value for name, value in where.items()}
    rows = [row for row in ORDERS if all(row[name] == value for name, value in names.items())]
    return sum((Decimal(row[column]) for row in rows), Decimal(0))


FORMS: dict[str, Callable[[], Any]] = {
    "What's the average order value in the East?": lambda: (
        _sum(Region="East") / sum(row["Region"] == "East" for row in ORDERS)
    ),
    "total amount not in the West": lambda: _sum() - _sum(Region="West"),
    "What is the total amount for West and East?": lambda: (
        _sum(Region="West") + _sum(Region="East")
    ),
    "How many orders were placed without a sales rep?": lambda: sum(
        row["Sales Rep"] is None for row in ORDERS
    ),
    "How many orders have a discount?": lambda: sum(row["Discount"] is not None for row in ORDERS),
    "How many orders were placed between March and May 2025?": lambda: sum(
        3 <= row["Date"].month <= 5 for row in ORDERS
    ),
    "How many orders in June and July?": lambda: sum(row["Date"].month in (6, 7) for row in ORDERS),
    "How many orders were placed after 2025-06-30?": lambda: sum(
        row["Date"].month > 6 for row in ORDERS
    ),
    "How many orders over 1000 euros?": lambda: sum(row["Amount"] > 1000 for row in ORDERS),
    "Which customer bought the most chairs?": lambda: max(
        {row["Customer"] for row in ORDERS},
        key=lambda name: _sum("Quantity", Customer=name, Product="Chair"),
    ),
    "What are the three largest orders?": lambda: sorted(
        ORDERS, key=lambda row: row["Amount"], reverse=True
    )[2]["Order ID"],
    "Top 3 customers by amount": lambda: sorted(
        {row["Customer"] for row in ORDERS}, key=lambda name: _sum(Customer=name)
    )[-3],
    "How much did Cobalt Ltd spend?": lambda: _sum(Customer="Cobalt Ltd"),
    "What percentage of orders were canceled?": lambda: (
        Decimal(100 * sum(row["Status"] == "canceled" for row in ORDERS)) / 200
    ),
    "Wie viele Bestellungen gibt es?": lambda: 200,
}


@pytest.mark.parametrize("question", FORMS)
def test_other_forms_of_questions(question: str) -> None:
    found = compute(ORDERS_DOCUMENT, question)
    assert found is not None
    assert found.computation.refused is None, found.text
    assert is_right(figure(found), FORMS[question]()), (found.text, FORMS[question]())


HEAD = "Item,Region,Amount\n"


def test_mixed_units_are_refused() -> None:
    found = ask(HEAD + "a,West,€12.50\nb,West,$9.00\nc,East,€3.00\n", "What is the total amount?")
    assert "Amount mixes units: EUR in 2 cells, USD in 1 cell" in found.text
    found = ask(HEAD + "a,West,€12.50\nb,West,$9.00\nc,East,€3.00\n", "Total amount in the East?")
    assert figure(found) == "3.00 EUR"


def test_a_column_of_currencies_counts() -> None:
    rows = "Item,Amount,Currency\na,12.50,EUR\nb,9.00,USD\nc,3.00,EUR\n"
    assert "mixes units: Currency is" in ask(rows, "What is the total amount?").text
    assert figure(ask(rows, "What is the total amount in EUR?")) == "15.50 EUR"
    assert figure(ask(rows, "What is the total amount where Currency is USD?")) == "9.00 USD"


def test_texts_among_numbers_are_refused_with_their_number() -> None:
    rows = HEAD + "a,West,12\nb,West,about 9\nc,East,3\nd,East,7\ne,East,n/a\n"
    assert (
        "1 cell of Amount is no number ('about 9'; line 3)"
        in ask(rows, "What is the sum of the amounts?").text
    )
    assert figure(ask(rows, "What is the sum of the amounts in the East?")) == "10"


def test_two_notations_in_one_column_are_refused() -> None:
    rows = HEAD + 'a,West,12.5\nb,West,"9,25"\nc,East,3\n'
    assert "decimal points in some cells and decimal commas" in ask(rows, "Total amount?").text


def test_ambiguous_dates_are_refused() -> None:
    rows = "Item,Date,Amount\na,3/4/2025,1\nb,5/6/2025,2\nc,7/7/2025,3\n"
    question = "How many rows are there in April 2025?"
    assert "whether the day or the month comes first" in ask(rows, question).text
    assert figure(ask(rows.replace("7/7", "7/17"), question)) == "0"
    assert figure(ask(rows.replace("7/7", "17/7"), question)) == "1"


def test_a_row_with_too_many_cells_is_refused() -> None:
    rows = HEAD + "a,West,12\nb,West,9,5\nc,East,3\n"
    assert "1 row has more cells than the header (line 3)" in ask(rows, "Total amount?").text


def test_a_row_of_totals_is_left_out_and_told() -> None:
    rows = HEAD + "a,West,12\nb,West,9\nc,East,3\nTotal,,24\n"
    found = ask(rows, "What is the total amount?")
    assert figure(found) == "24"
    assert "totals left out: line 5" in found.text
    assert figure(ask(rows, "How many rows are there?")) == "3"


def test_all_rows_that_hold_an_extreme_are_told() -> None:
    rows = HEAD + "a,West,12\nb,West,9\nc,East,12\nd,East,1\n"
    found = ask(rows, "What is the highest amount?")
    assert figure(found) == "12"
    assert "held by 2 rows" in found.text
    assert [each.line_start for each in found.citations] == [2, 4]


def test_equal_groups_are_all_named() -> None:
    rows = HEAD + "a,West,12\nb,West,9\nc,East,12\nd,East,1\n"
    assert figure(ask(rows, "Which region has the most items?")) == "West: 2; East: 2"


def test_the_most_of_names_counts_them_once() -> None:
    rows = "No,Region,Customer\n1,West,A\n2,West,A\n3,East,A\n4,East,B\n5,West,A\n"
    assert figure(ask(rows, "Which region has the most customers?")) == "East: 2"
    assert figure(ask(rows, "Which region has the most rows?")) == "West: 3"


def test_a_second_reading_is_told() -> None:
    rows = HEAD + "a,West,6\nb,West,6\nc,East,9\nd,North,1\n"
    found = ask(rows, "Which region has the highest amount?")
    assert figure(found) == "Region East: 9"
    assert found.text.endswith("Added up: West: 12 (greatest sum of Amount by Region over 4 rows)")


def test_sums_are_exact() -> None:
    rows = HEAD + "".join(f"i{n},West,0.{n % 10}0\n" for n in range(1000))
    assert figure(ask(rows, "What is the total amount?")) == "450.00"


def test_a_table_of_two_columns_is_computed_with() -> None:
    found = ask("month,revenue\nJan,100\nFeb,250\nMar,80\n", "What is the total revenue?")
    assert figure(found) == "430"
    found = ask("month,revenue\nJan,100\nFeb,250\nMar,80\n", "Which month had the lowest revenue?")
    assert "Mar" in figure(found)
    assert found.citations[0].line_start == 4


def test_a_row_after_a_cell_of_several_lines_has_its_own_line() -> None:
    rows = HEAD + 'a,West,12\n"b\nc",West,9\nd,East,30\n'
    [citation] = ask(rows, "What is the highest amount?").citations
    assert citation.line_start == 5
    assert citation.quote == "Item: d | Region: East | Amount: 30"


def test_the_table_is_chosen_by_its_columns_and_named() -> None:
    returns = "Return,Reason,Fee\n1,broken,5\n2,late,7\n3,late,2\n"
    both = join_documents([ORDERS_DOCUMENT, table(returns, "returns.csv")], "2 files")
    found = compute(both, "What is the total fee?")
    assert found is not None
    assert found.text == "14 (sum of Fee over 3 rows in returns.csv)"
    assert found.citations[0].source == "returns.csv"
    found = compute(both, "What is the largest amount?")
    assert found is not None
    assert found.computation.table == "orders.csv"


def test_a_question_about_two_tables_is_refused_unless_one_is_named() -> None:
    pair = [table("A,Region,Amount\n1,West,5\n2,East,7\n", "paid.csv")]
    pair += [table("B,Region,Amount\n1,West,1\n2,East,2\n", "due.csv")]
    both = join_documents(pair, "2 files")
    found = compute(both, "What is the total amount?")
    assert found is not None
    assert "may be about paid.csv and due.csv; name one of them" in found.text
    found = compute(both, "What is the total amount in due.csv?")
    assert found is not None
    assert figure(found) == "3"


def test_files_with_the_same_header_are_one_table() -> None:
    quarters = [table(HEAD + f"a{n},West,{n}\nb{n},East,{n}\n", f"q{n}.csv") for n in (1, 2)]
    found = compute(join_documents(quarters, "2 files"), "What is the total amount in the West?")
    assert found is not None
    assert found.text == "3 (sum of Amount over 2 rows where Region is West in q1.csv, q2.csv)"
    assert [each.source for each in found.citations] == ["q1.csv", "q2.csv"]


def test_beside_other_texts_only_what_is_understood_is_computed() -> None:
    mixed = join_documents([ORDERS_DOCUMENT, table("The contract.", "contract.txt")], "2 files")
    found = compute(mixed, "How many orders came from the West?")
    assert found is not None
    assert found.computation.value == 50
    assert compute(mixed, "How many parties signed the contract?") is None
    assert compute(mixed, "What is the total fee of the contract?") is None


def test_a_table_of_sentences_is_left_to_the_model() -> None:
    answer = "You get thirty days of paid leave a year, and five more after ten years of work."
    rows = "No,Question,Answer\n" + "".join(f"{n},What about {n}?,{answer}\n" for n in range(1, 9))
    assert compute(table(rows), "How many days of leave do I get?") is None


def test_tsv_and_json_lines_are_tables() -> None:
    rows = HEAD.replace(",", "\t") + "a\tWest\t12\nb\tEast\t9\n"
    found = compute(table(rows, "t.tsv"), "What is the total amount?")
    assert found is not None
    assert figure(found) == "21"
    lines = '{"item": "a", "region": "West", "amount": 12.5}\n'
    lines += '{"item": "b", "region": "East", "amount": 9, "note": null}\n'
    found = compute(table(lines, "t.jsonl"), "What is the total amount?")
    assert found is not None
    assert figure(found) == "21.5"
    assert [each.line_start for each in found.citations] == [1, 2]
    assert found.citations[1].quote == lines.splitlines()[1]


@pytest.mark.parametrize("make", [made.orders_csv, lambda rows: made.orders_csv(rows)[:-1]])
def test_compressed_tables_are_computed_with(make: Callable[[made.Rows], str]) -> None:
    import gzip

    document = parse_document("orders.csv.gz", gzip.compress(make(ORDERS).encode()))
    found = compute(document, "How many orders are there?")
    assert found is not None
    assert figure(found) == "200"
    assert found.citations[0].source == "orders.csv.gz"


QUESTION_WORDS = """what is the total sum average of amount quantity orders order region West East
in over 500 more than between and 2025 March per by each which highest top 3 most without discount
not how many customers status open shipped 1042 50% € share median difference dogs"""
WORDS = st.sampled_from(QUESTION_WORDS.split())


@settings(max_examples=300)
@given(st.lists(WORDS, max_size=12))
def test_any_words_are_answered_refused_or_left(words: list[str]) -> None:
    found = compute(ORDERS_DOCUMENT, " ".join(words))
    assert found is None or found.text


@given(st.text(max_size=60))
def test_any_text_is_answered_refused_or_left(text: str) -> None:
    found = compute(ORDERS_DOCUMENT, text)
    assert found is None or found.text


@settings(max_examples=60)
@given(
    st.sampled_from(["North", "South", "East", "West"]),
    st.sampled_from(["shipped", "open", "canceled", "returned", None]),
    st.integers(1, 24),
    st.sampled_from(
        [("more than", int.__gt__), ("at least", int.__ge__), ("fewer than", int.__lt__)]
    ),
)
def test_conditions_together_are_those_of_a_plain_loop(
    region: str, status: str | None, units: int, comparison: tuple[str, Callable[[int, int], bool]]
) -> None:
    words, holds = comparison
    named = f"{status} orders" if status else "orders"
    question = f"How many {named} in the {region} have {words} {units} units?"
    found = compute(ORDERS_DOCUMENT, question)
    assert found is not None
    assert found.computation.value == sum(
        row["Region"] == region
        and (status is None or row["Status"] == status)
        and holds(row["Quantity"], units)
        for row in ORDERS
    )


@pytest.mark.parametrize(
    ("question", "figure_found"),
    [
        ("How many invoices are paid?", "2"),
        ("How much has Acme paid?", "1,650.50"),
        ("How much did Acme pay in total?", "1,700.50"),
        ("Wie viel hat Acme insgesamt bezahlt?", "1,700.50"),
        ("Who paid on 2024-02-11?", "Acme"),
    ],
)
def test_a_verb_is_a_value_only_where_the_table_has_it(question: str, figure_found: str) -> None:
    text = (
        "Invoice,Customer,Amount,Status,Paid on\n"
        '1001,Acme,"1,200.00",paid,2024-01-04\n1002,Beta,300.00,open,\n'
        "1003,Acme,450.50,paid,2024-02-11\n1004,Acme,50.00,overdue,\n"
    )
    assert figure_found in ask(text, question).text


SHIPMENTS = (
    "Shipment,Carrier,Cost,Status\nS1,Norlink,10,lost\nS2,Veltrans,20,lost\nS3,Norlink,40,sent\n"
)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the total cost of lost shipments?", 30),
        ("What is the average cost of Norlink shipments?", 25),
        ("How many lost shipments are there?", 2),
    ],
)
def test_the_name_of_the_key_stands_for_the_rows(question: str, expected: int) -> None:
    assert is_right(figure(ask(SHIPMENTS, question)), expected)


STAFF = "Name,City,Salary\nAna Abel,Porto,100\nBen Brand,Lyon,200\nCleo Costa,Lyon,300\n"


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How many employees are there?", 3),
        ("How many employees are listed?", 3),
        ("Which city has the most employees?", "Lyon"),
        ("How many students live in Porto?", 1),
    ],
)
def test_rows_that_are_persons_have_any_name_for_persons(question: str, expected: Any) -> None:
    assert is_right(figure(ask(STAFF, question)), expected)


PRICES = """Product;Size;Price EUR;In stock;Supplier
Anchor chain;8 mm;4,90;120;Nordkette
Anchor chain;10 mm;7,20;0;Nordkette
Fender;20 cm;18,50;34;Marex
Fender;30 cm;31,00;12;Marex
Mooring rope;12 mm;2,35;400;Seil Huber
Boat hook;2 m;24,95;7;Marex
"""


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What does the 30 cm fender cost?", "31,00"),
        ("How much is the 20 cm fender?", "18,50"),
        ("How much is the boat hook?", "24,95"),
        ("Was kostet der Fender 20 cm?", "18,50"),
        ("How much does a fender cost?", "2 rows: 18,50; 31,00"),
        ("Who supplies the 10 mm anchor chain?", "Nordkette"),
        ("Who supplies the mooring rope?", "Seil Huber"),
        ("Which product is out of stock?", "Anchor chain"),
        ("Which products have no stock?", "Anchor chain"),
        ("How many fenders are in stock in total?", "46"),
    ],
)
def test_look_ups_of_a_price_list(question: str, expected: str) -> None:
    assert figure(ask(PRICES, question)) == expected


@pytest.mark.parametrize(
    "question", ["Which fenders are longer than 20 cm?", "Which products are up to 10 mm?"]
)
def test_a_size_that_is_compared_is_no_value(question: str) -> None:
    found = compute(table(PRICES), question)
    assert found is None or found.computation.refused is not None


def test_none_is_blank_where_a_column_writes_no_zero() -> None:
    text = "Product,Price,Stock\nRope,2,4\nHook,3,\nChain,5,7\nBuoy,6,2\n"
    assert figure(ask(text, "Which products have no stock?")) == "Hook"
    assert figure(ask(text, "Which products have a blank stock?")) == "Hook"
