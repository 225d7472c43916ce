// The page of a citation: its picture with the quote marked, and its text.

import {uploadOf} from "./documents.js";
import {announce, byId, make} from "./elements.js";
import {call} from "./server.js";

let shown = null, calls = 0;
const TABS = ["picture", "text"];

/** Show the page of a citation; `wanted` has names, source, page, line, quote, and the button. */
export async function show(wanted) {
  const number = ++calls;
  const query = new URLSearchParams(wanted.names.map(name => ["document", name]));
  query.set("source", wanted.source);
  if (wanted.page !== null) query.set("page", wanted.page);
  const excerpt = new URLSearchParams(query);
  if (wanted.line) excerpt.set("line", wanted.line);
  if (wanted.quote) excerpt.set("quote", wanted.quote);
  byId("viewer").hidden = false;
  byId("main").classList.add("split");
  byId("where").textContent = wanted.source;
  try {
    const found = await (await call(`/v1/documents/excerpt?${excerpt}`)).json();
    if (number !== calls) return;
    shown = {...wanted, found};
    const label = found.page_label ? ` (${found.page_label})` : "";
    byId("where").textContent = found.page === null ? found.source
      : `${found.source}, ${found.unit} ${found.page}${label} of ${found.pages}`;
    showControls(found);
    showText(wanted, found);
    aboutQuote(wanted, found);
    select(found.picture ? "picture" : "text");
    byId("where").focus({preventScroll: true});
    byId("picture").replaceChildren();
    if (found.picture) await showPicture(query, found, () => number === calls);
  } catch (error) {
    if (number !== calls) return;
    select("text");
    byId("text").replaceChildren(make("span", {className: "bad", role: "alert",
      textContent: error.message}));
  }
}

function showControls(found) {
  const paged = found.page !== null;
  byId("earlier").hidden = byId("later").hidden = !paged;
  byId("earlier").disabled = found.page <= 1;
  byId("later").disabled = found.page >= found.pages;
  byId("tab-picture").disabled = !found.picture;
  const upload = uploadOf(found.source);
  byId("pdf").hidden = !(found.picture && upload);
  byId("pdf").dataset.id = upload ?? "";
}

/** Say so where the quote of a citation is not marked on the picture. */
function aboutQuote(wanted, found) {
  const lost = Boolean(wanted.quote && found.picture && !found.picture.marks.length);
  byId("about-quote").hidden = !lost;
  byId("about-quote").textContent = lost
    ? "The quote was not found on the picture of this page; the text has it." : "";
}

async function showPicture(query, found, current) {
  const width = Math.round(Math.min(1600, 900 * Math.max(1, window.devicePixelRatio)));
  query.set("page", found.page);
  query.set("width", width);
  const picture = await (await call(`/v1/documents/page?${query}`)).blob();
  if (!current()) return;
  const image = make("img", {alt: byId("where").textContent, src: URL.createObjectURL(picture)});
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), {once: true});
  const sheet = make("div", {className: "sheet"}, image);
  for (const {left, top, width, height} of found.picture.marks) {
    const mark = make("mark");
    const sides = {left, top, width, height};
    for (const side in sides) mark.style[side] = `${100 * sides[side]}%`;
    sheet.append(mark);
  }
  byId("picture").replaceChildren(sheet);
  await image.decode();
  scrollToMark("picture");
}

function scrollToMark(view) {
  byId(view).querySelector("mark")?.scrollIntoView({block: "center", inline: "center"});
}

function showText(wanted, found) {
  const lines = found.text.split("\n");
  const before = wanted.line ? Math.max(0, wanted.line - found.first_line) : 0;
  const from = lines.slice(0, before).reduce((sum, line) => sum + line.length + 1, 0);
  const start = wanted.quote ? found.text.indexOf(wanted.quote, from) : -1;
  const end = start + (wanted.quote ?? "").length;
  byId("text").replaceChildren(...(start < 0 ? [found.text || "This page has no text."] : [
    found.text.slice(0, start), make("mark", {textContent: wanted.quote}), found.text.slice(end),
  ]));
  byId("text").scrollTop = 0;
}

/** Show one of the two views. */
function select(name) {
  for (const each of TABS) {
    const tab = byId(`tab-${each}`);
    tab.setAttribute("aria-selected", String(each === name));
    tab.tabIndex = each === name ? 0 : -1;
    byId(each).hidden = each !== name;
  }
  scrollToMark(name);
}

function turnPage(by) {
  show({...shown, page: shown.found.page + by, line: null, quote: null})
    .then(() => announce(byId("where").textContent));
}

/** Close the page; the focus returns to the citation. */
export function closeViewer() {
  calls += 1;
  byId("viewer").hidden = true;
  byId("main").classList.remove("split");
  for (const each of document.querySelectorAll(".citations button")) {
    each.setAttribute("aria-pressed", "false");
  }
  shown?.from?.focus();
}

async function openPdf(event) {
  event.preventDefault();
  const path = `/v1/files/${byId("pdf").dataset.id}/content`;
  let address = path;
  if (sessionStorage.getItem("key")) {  // a new tab cannot send the key
    address = URL.createObjectURL(await (await call(path)).blob());
  }
  window.open(`${address}#page=${shown.found.page}`, "_blank", "noopener");
}

export function startViewer() {
  byId("earlier").addEventListener("click", () => turnPage(-1));
  byId("later").addEventListener("click", () => turnPage(1));
  byId("close").addEventListener("click", closeViewer);
  byId("pdf").addEventListener("click", openPdf);
  for (const name of TABS) byId(`tab-${name}`).addEventListener("click", () => select(name));
  byId("tab-picture").parentElement.addEventListener("keydown", event => {
    const step = {ArrowLeft: 0, Home: 0, ArrowRight: 1, End: 1}[event.key];
    const tab = step === undefined ? null : byId(`tab-${TABS[step]}`);
    if (!tab || tab.disabled) return;
    event.preventDefault();
    select(TABS[step]);
    tab.focus();
  });
}
