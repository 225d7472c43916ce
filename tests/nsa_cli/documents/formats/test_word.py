"""Word documents: every kind of text that a reader sees, at its place, or told."""

from __future__ import annotations

import io
import zipfile

import docx
import pytest

from nsa_cli.documents import Document, parse_document
from nsa_cli.documents.errors import UnreadableError

_NAMES = " ".join(
    f'xmlns:{prefix}="{name}"'
    for prefix, name in {
        "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
        "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
        "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
        "c": "http://schemas.openxmlformats.org/drawingml/2006/chart",
        "dgm": "http://schemas.openxmlformats.org/drawingml/2006/diagram",
        "v": "urn:schemas-microsoft-com:vml",
        "o": "urn:schemas-microsoft-com:office:office",
        "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
        "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
        "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
    }.items()
)
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_WORD_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml"


OFF = "<w:default w:val='0'/>"
RESTART = "<w:vMerge w:val='restart'/>"
SPAN = "<w:gridSpan w:val='9'/>"


def package(body: str, **parts: str) -> bytes:
    """A document with a body and further parts, named by the kind of their relationship."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        overrides = "".join(
            f'<Override PartName="/word/{name}.xml" ContentType="{_WORD_TYPE}.{kind}+xml"/>'
            for name in parts
            for kind in [name.rstrip("0123456789")]
        )
        archive.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            '<Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Default Extension="xml" ContentType="application/xml"/>'
            f'<Override PartName="/word/document.xml" ContentType="{_WORD_TYPE}'
            f'.document.main+xml"/>{overrides}</Types>',
        )
        relationships = "http://schemas.openxmlformats.org/package/2006/relationships"
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{relationships}"><Relationship Id="r1" '
            f'Type="{_OFFICE}/officeDocument" Target="word/document.xml"/></Relationships>',
        )
        archive.writestr(
            "word/_rels/document.xml.rels",
            f'<Relationships xmlns="{relationships}">'
            + "".join(
                f'<Relationship Id="{name}" Type="{_OFFICE}/{name.rstrip("0123456789")}" '
                f'Target="{name}.xml"/>'
                for name in parts
            )
            + "</Relationships>",
        )
        archive.writestr(
            "word/document.xml", f"<w:document {_NAMES}><w:body>{body}</w:body></w:document>"
        )
        for name, content in parts.items():
            archive.writestr(f"word/{name}.xml", content.replace("NAMES", _NAMES))
    return file.getvalue()


def p(text: str, properties: str = "") -> str:
    """A paragraph of one run."""
    return f"<w:p><w:pPr>{properties}</w:pPr>{r(text)}</w:p>"


def r(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def cell(content: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{content}</w:tc>"


def read(body: str, **parts: str) -> Document:
    return parse_document("a.docx", package(body, **parts))


def lines(body: str, **parts: str) -> list[str]:
    return read(body, **parts).text.splitlines()


def test_tracked_changes_are_read_as_accepted() -> None:
    document = read(
        "<w:p>" + r("The notice period is ") + "<w:del><w:r><w:delText>30</w:delText></w:r></w:del>"
        f"<w:ins>{r('60')}</w:ins>" + r(" days.") + "</w:p>"
        f"<w:ins>{p('An inserted paragraph.')}</w:ins>"
        f"<w:p><w:moveTo>{r('Moved here.')}</w:moveTo></w:p>"
        f"<w:p><w:moveFrom>{r('Moved here.')}</w:moveFrom></w:p>"
    )
    assert document.text.split("\n") == [
        "The notice period is 60 days.",
        "An inserted paragraph.",
        "Moved here.",
    ]
    assert document.warnings == ("2 tracked deletions are left out: “30”, “Moved here.”",)


def test_content_controls_and_fields() -> None:
    control = "<w:sdt><w:sdtContent>{}</w:sdtContent></w:sdt>"
    box = "<w:fldChar><w:ffData><w:checkBox>{}</w:checkBox></w:ffData></w:fldChar>"
    found = lines(
        control.format(p("Block control."))
        + f"<w:p>{r('Name: ')}{control.format(r('Anna'))}<w:fldSimple>{r(' 7')}</w:fldSimple></w:p>"
        + f"<w:p><w:r>{box.format('<w:checked/>')}</w:r>{r(' agreed ')}"
        + f"<w:r>{box.format(OFF)}</w:r>{r(' refused')}</w:p>"
        + "<w:p><w:smartTag><w:hyperlink>"
        + r("linked")
        + '</w:hyperlink></w:smartTag><w:r><w:sym w:font="Wingdings" w:char="F0FE"/></w:r></w:p>'
    )
    assert found == ["Block control.", "Name: Anna 7", "☒ agreed ☐ refused", "linked☒"]


def test_tables_inside_tables_and_odd_grids() -> None:
    inner = f"<w:tbl><w:tr>{cell(p('A'))}{cell(p('1'))}</w:tr></w:tbl>"
    found = lines(
        f"<w:tbl><w:tr>{cell(p('Before') + inner + p('After'))}{cell(p('Beside'))}</w:tr></w:tbl>"
        "<w:tbl><w:tr><w:trPr><w:gridBefore w:val='2'/></w:trPr>"
        f"{cell(p('Year'), RESTART)}{cell(p('x'))}</w:tr>"
        "<w:tr><w:trPr><w:gridBefore w:val='2'/></w:trPr>"
        f"{cell(p(''), '<w:vMerge/>')}{cell(p('y') + p('z'))}</w:tr>"
        f"<w:sdt><w:sdtContent><w:tr>{cell(p('wide'), SPAN)}</w:tr>"
        "</w:sdtContent></w:sdt></w:tbl>"
    )
    assert found == ["Before", "A | 1", "After", "Beside", "Year | x", "Year | y z", "wide"]


def test_cells_of_several_columns_keep_the_columns_of_a_table_not_of_a_form() -> None:
    two = "<w:gridSpan w:val='2'/>"
    head = f"<w:tr>{cell(p('Costs'), two)}{cell(p('Note'))}</w:tr>"
    table = f"<w:tr>{cell(p('Roof'))}{cell(p('10'))}{cell(p('new'))}</w:tr>"
    form = f"<w:tr>{cell(p('Name'))}{cell(p('Anna'), two)}</w:tr>"
    assert lines(f"<w:tbl>{head}{table}</w:tbl>") == ["Costs |  | Note", "Roof | 10 | new"]
    assert lines(f"<w:tbl>{head}{form}</w:tbl>") == ["Costs | Note", "Name | Anna"]


def test_text_boxes_are_read_once() -> None:
    box = f"<w:txbxContent>{p('Boxed words.')}</w:txbxContent>"
    found = lines(
        f"<w:p>{r('Anchor.')}<w:r><mc:AlternateContent><mc:Choice Requires='wps'><w:drawing>"
        f"<wps:txbx>{box}</wps:txbx></w:drawing></mc:Choice><mc:Fallback><w:pict><v:textbox>{box}"
        "</v:textbox></w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>"
        f"<w:p><w:r><w:pict><v:shape><v:textbox>{box.replace('Boxed', 'Old')}</v:textbox>"
        "<v:textpath string='DRAFT'/></v:shape></w:pict></w:r></w:p>"
    )
    assert found == ["Anchor.", "Boxed words.", "Old words.", "DRAFT"]


def test_headers_footers_notes_and_comments() -> None:
    band = "<w:{} NAMES>" + p("{}") + "</w:{}>"
    section = (
        '<w:sectPr><w:headerReference w:type="default" r:id="header1"/>'
        '<w:headerReference w:type="first" r:id="header2"/>'
        '<w:footerReference w:type="default" r:id="footer1"/>{}</w:sectPr>'
    )
    document = read(
        f"<w:p>{r('The fee')}<w:r><w:footnoteReference w:id='2'/></w:r>{r(' is due')}"
        "<w:r><w:commentReference w:id='0'/></w:r>"
        f"<w:r><w:endnoteReference w:id='2'/></w:r></w:p>{section.format('')}",
        header1=band.format("hdr", "Company", "hdr"),
        header2=band.format("hdr", "Title page", "hdr"),
        footer1=band.format("ftr", "Page 1", "ftr"),
        footnotes=f"<w:footnotes NAMES><w:footnote w:id='2'>{p('Net of tax.')}</w:footnote>"
        f"<w:footnote w:id='0' w:type='separator'>{p('x')}</w:footnote></w:footnotes>",
        endnotes=f"<w:endnotes NAMES><w:endnote w:id='2'>{p('See law.')}</w:endnote></w:endnotes>",
        comments=f"<w:comments NAMES><w:comment w:id='0' w:author='Eva'>{p('Why?')}</w:comment>"
        f"<w:comment w:id='1'>{p('Adrift.')}</w:comment></w:comments>",
    )
    assert document.text.split("\n") == [
        "Header: Company",
        "The fee[1] is due[i]",
        "[1] Net of tax.",
        "Comment by Eva: Why?",
        "[i] See law.",
        "Footer: Page 1",
        "Comment: Adrift.",
    ]
    assert document.warnings[0] == "1 switched-off header is left out: “Title page”"
    again = read(
        p("x") + section.format("<w:titlePg/>"),
        header1=band.format("hdr", "Company", "hdr"),
        header2=band.format("hdr", "Title page", "hdr"),
        footer1=band.format("ftr", "", "ftr"),
    )
    assert again.text.split("\n") == ["Header: Title page", "Header: Company", "x"]


_NUMBERING = """<w:numbering NAMES>
<w:abstractNum w:abstractNumId="0">
<w:lvl w:ilvl="0"><w:start w:val="8"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1"/></w:lvl>
<w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:pStyle w:val="Clause"/>
<w:lvlText w:val="%1.%2"/></w:lvl>
<w:lvl w:ilvl="2"><w:start w:val="1"/><w:numFmt w:val="lowerLetter"/>
<w:lvlText w:val="(%3)"/></w:lvl>
</w:abstractNum>
<w:abstractNum w:abstractNumId="1"><w:lvl w:ilvl="0"><w:start w:val="1"/>
<w:numFmt w:val="upperRoman"/><w:lvlText w:val="Art. %1"/></w:lvl></w:abstractNum>
<w:abstractNum w:abstractNumId="2"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/>
<w:lvlText w:val="&#xF0B7;"/></w:lvl></w:abstractNum>
<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>
<w:num w:numId="2"><w:abstractNumId w:val="1"/></w:num>
<w:num w:numId="3"><w:abstractNumId w:val="1"/><w:lvlOverride w:ilvl="0">
<w:startOverride w:val="4"/></w:lvlOverride></w:num>
<w:num w:numId="4"><w:abstractNumId w:val="2"/></w:num>
</w:numbering>"""
_STYLES = """<w:styles NAMES><w:style w:type="paragraph" w:styleId="Clause"><w:name w:val="Clause"/>
<w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="H2"><w:name w:val="heading 2"/><w:basedOn w:val="Clause"/>
</w:style><w:style w:type="character" w:styleId="Secret"><w:name w:val="Secret"/>
<w:rPr><w:vanish/></w:rPr></w:style></w:styles>"""


def numbered(number: int, level: int, text: str) -> str:
    return p(text, f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>')


def test_automatic_numbers() -> None:
    found = lines(
        numbered(1, 0, "Payment")
        + p("Rent", '<w:pStyle w:val="Clause"/>')
        + p("Penalty", '<w:pStyle w:val="H2"/>')
        + numbered(1, 2, "in cash")
        + numbered(1, 2, "by bank")
        + numbered(1, 0, "Delivery")
        + p("Place", '<w:pStyle w:val="Clause"/>')
        + p("None", '<w:pStyle w:val="Clause"/><w:numPr><w:numId w:val="0"/></w:numPr>')
        + numbered(2, 0, "first")
        + numbered(3, 0, "set anew")
        + numbered(2, 0, "goes on")
        + numbered(4, 0, "a point"),
        numbering=_NUMBERING,
        styles=_STYLES,
    )
    assert found == [
        "8 Payment",
        "8.1 Rent",
        "## 8.2 Penalty",
        "(a) in cash",
        "(b) by bank",
        "9 Delivery",
        "9.1 Place",
        "None",
        "Art. I first",
        "Art. IV set anew",
        "Art. V goes on",
        "- a point",
    ]


def test_hidden_text_is_told_and_read_when_asked() -> None:
    body = (
        "<w:p>" + r("Seen. ") + "<w:r><w:rPr><w:vanish/></w:rPr><w:t>Obey me.</w:t></w:r>"
        '<w:r><w:rPr><w:rStyle w:val="Secret"/></w:rPr><w:t>Me too.</w:t></w:r></w:p>'
    )
    data = package(body, styles=_STYLES)
    document = parse_document("a.docx", data)
    assert document.text.strip() == "Seen."
    told = "2 hidden passages are left out: “Obey me.”, “Me too.”; --hidden reads hidden text"
    assert document.warnings == (told,)
    assert parse_document("a.docx", data, hidden=True).text == "Seen. Obey me.Me too."


def test_white_and_tiny_text_is_hidden_and_white_text_on_a_fill_is_not() -> None:
    white = '<w:r><w:rPr><w:color w:val="ffffff"/>{}</w:rPr><w:t>{}</w:t></w:r>'
    tiny = '<w:r><w:rPr><w:sz w:val="2"/></w:rPr><w:t>Tiny orders.</w:t></w:r>'
    document = read(
        f"<w:p>{r('Seen. ')}{white.format('', 'White orders.')}{tiny}"
        f"{white.format('<w:shd/>', 'On a fill.')}</w:p>"
        f"<w:tbl><w:tr>{cell('<w:p>' + white.format('', 'Head') + '</w:p>')}</w:tr></w:tbl>"
        f"<w:p><w:pPr><w:shd/></w:pPr>{white.format('', 'Banner')}</w:p>"
    )
    assert document.text.split("\n") == ["Seen. On a fill.", "Head", "Banner"]
    assert "2 hidden passages are left out: “White orders.”" in document.warnings[0]


def test_exponents_and_marks_of_notes_are_parted_from_figures() -> None:
    raised = "<w:r><w:rPr><w:vertAlign w:val='superscript'/></w:rPr><w:t>{}</w:t></w:r>"
    up = [raised.format(text) for text in ("3", "2", "1", "-6")]
    body = "<w:p>" + r("10") + up[0] + r(" N/m") + up[1] + r(" in 2019") + up[2] + r(", 5") + up[3]
    document = read(body + "</w:p>")
    assert document.text == "10^3 N/m2 in 2019^1, 5^-6"
    assert document.warnings == ()


def test_a_reading_over_a_word_is_read_once_and_not_missed() -> None:
    ruby = f"<w:ruby><w:rt>{r('とうきょう')}</w:rt><w:rubyBase>{r('東京')}</w:rubyBase></w:ruby>"
    document = read(f"<w:p>{r('In ')}<w:r>{ruby}</w:r></w:p>")
    assert document.text == "In 東京(とうきょう)"
    assert document.warnings == ()


def test_equations() -> None:
    def e(text: str) -> str:
        return f"<m:e><m:r><m:t>{text}</m:t></m:r></m:e>"

    def part(name: str, text: str) -> str:
        return f"<m:{name}><m:r><m:t>{text}</m:t></m:r></m:{name}>"

    power = f"<m:sSup>{e('r')}{part('sup', '2')}</m:sSup>"
    fraction = f"<m:f>{part('num', 'a+b')}{part('den', '2')}</m:f>"
    root = f"<m:rad><m:radPr/><m:deg/>{e('x')}</m:rad>"
    total = (
        f"<m:nary><m:naryPr><m:chr m:val='∑'/></m:naryPr>{part('sub', 'n=1')}{part('sup', 'k')}"
        f"{e('n')}</m:nary>"
    )
    assert lines(
        f"<w:p>{r('Area ')}<m:oMath><m:r><m:t>A=π</m:t></m:r>{power}</m:oMath>{r('.')}</w:p>"
        f"<w:p><m:oMathPara><m:oMath>{fraction}</m:oMath></m:oMathPara></w:p>"
        f"<m:oMath>{root}{total}</m:oMath>"
    ) == ["Area A=πr^2.", "(a+b)/2", "√(x)∑_(n=1)^k n"]


_CHART = (
    "<c:chartSpace NAMES><c:chart><c:title><c:tx><c:rich><a:p><a:r><a:t>Sales</a:t></a:r></a:p>"
    "</c:rich></c:tx></c:title><c:plotArea><c:barChart><c:ser><c:tx><c:strRef><c:strCache>"
    "<c:pt idx='0'><c:v>Cranes</c:v></c:pt></c:strCache></c:strRef></c:tx><c:cat><c:strRef>"
    "<c:strCache><c:pt idx='0'><c:v>Q1</c:v></c:pt><c:pt idx='1'><c:v>Q2</c:v></c:pt></c:strCache>"
    "</c:strRef></c:cat><c:val><c:numRef><c:numCache><c:pt idx='0'><c:v>19.199999999999999</c:v>"
    "</c:pt><c:pt idx='1'><c:v>21.4</c:v></c:pt></c:numCache></c:numRef></c:val></c:ser>"
    "</c:barChart></c:plotArea></c:chart></c:chartSpace>"
)


def test_charts_diagrams_and_embedded_objects() -> None:
    document = read(
        "<w:p><w:r><w:drawing><c:chart r:id='chart1'/></w:drawing></w:r></w:p>"
        "<w:p><w:r><w:drawing><dgm:relIds r:dm='diagramData1'/></w:drawing></w:r></w:p>"
        "<w:p><w:r><w:object><o:OLEObject ProgID='Excel.Sheet.12'/></w:object></w:r></w:p>"
        "<w:altChunk r:id='none'/>",
        chart1=_CHART,
        diagramData1="<dgm:dataModel NAMES><dgm:ptLst><dgm:pt modelId='1'><dgm:t><a:p><a:r>"
        "<a:t>Step one</a:t></a:r></a:p></dgm:t></dgm:pt><dgm:pt type='pres'/></dgm:ptLst>"
        "</dgm:dataModel>",
    )
    assert document.text.split("\n") == [
        "Chart: Sales",
        "Q1 | Cranes: 19.2",
        "Q2 | Cranes: 21.4",
        "Step one",
    ]
    assert document.warnings == (
        "1 embedded object (Excel.Sheet.12) is left out",
        "1 embedded document is left out",
    )


def test_words_that_cannot_be_placed_are_told() -> None:
    document = read(p("Kept.") + f"<w:unknown><w:p>{r('Lost clause')}</w:p></w:unknown>")
    assert document.text == "Kept."
    told = "2 words of the document could not be placed and were left out: Lost clause"
    assert document.warnings == (told,)


def renamed(data: bytes, change: dict[bytes, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            for before, after in change.items():
                content = content.replace(before, after)
            new.writestr(member.filename.replace("document.xml", "main2.xml"), content)
    return file.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        {
            b"schemas.openxmlformats.org/wordprocessingml/2006/main": b"purl.oclc.org/ooxml/"
            b"wordprocessingml/main",
            b"schemas.openxmlformats.org/officeDocument/2006/": b"purl.oclc.org/ooxml/"
            b"officeDocument/",
        },
        {
            b"openxmlformats-officedocument.wordprocessingml.document.main": b"ms-word.document."
            b"macroEnabled.main"
        },
    ],
)
def test_strict_files_and_macros_under_another_name(change: dict[bytes, bytes]) -> None:
    written = docx.Document()
    written.add_heading("Piers", 1)
    written.add_paragraph("The pier cost 4,200 crowns.")
    file = io.BytesIO()
    written.save(file)
    names = {b"word/document.xml": b"word/main2.xml"}
    document = parse_document("a.docm", renamed(file.getvalue(), change | names))
    assert document.text.split("\n") == ["# Piers", "The pier cost 4,200 crowns."]


def test_a_document_of_deleted_text_alone_says_so() -> None:
    with pytest.raises(UnreadableError, match=r"has no text .1 tracked deletion is left out"):
        read("<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>")
