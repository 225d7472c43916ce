// The documents that are asked together, and the files on the server.

import {announce, byId, counted, make, progressText, warningList} from "./elements.js";
import {call, events, post} from "./server.js";

const SETTLE = 250;  // milliseconds without a change before a list is read or searched

const documents = new Map();  // by id: {name, item, box}
let serves = {root: false, fetches_urls: false};
let stopReading = null, waiting = null, searches = 0;

/** Ids of the documents that a question is about. */
export const selected = () =>
  [...documents].filter(([, each]) => each.box.checked).map(([id]) => id);

/** Names of these documents. */
export const selectedNames = () => selected().map(id => documents.get(id).name);

/** The id of an uploaded file by its name, or undefined. */
export const uploadOf = name =>
  [...documents].find(([id, each]) => each.name === name && id.startsWith("file-"))?.[0];

/** Add a document by its id or path; it is read with the others that are selected. */
function add(id, name) {
  if (documents.has(id)) return;
  const box = make("input", {type: "checkbox", checked: true});
  const remove = make("button", {type: "button", textContent: "✕", "aria-label": `Remove ${name}`});
  const item = make("li", {}, make("label", {}, box, make("span", {textContent: name})), remove);
  box.addEventListener("change", changed);
  remove.addEventListener("click", () => {
    drop(id);
    (document.querySelector("#documents button") ?? byId("files")).focus();
  });
  documents.set(id, {name, item, box});
  byId("documents").append(item);
  announce(`added ${name}`);
  markAdded();
  changed();
}

/** Remove a document from the list; nothing on the server is removed. */
function drop(id) {
  const {name, item} = documents.get(id);
  documents.delete(id);
  item.remove();
  announce(`removed ${name}`);
  markAdded();
  changed();
}

/** Tell what a question is about, and read the selection when it has settled. */
function changed() {
  const count = selected().length;
  byId("scope").textContent = count === 0 ? "No document: the model answers without one."
    : count === 1 ? `About ${selectedNames()[0]}` : `About ${count} documents together`;
  stopReading?.abort();
  byId("reading").hidden = count === 0;
  byId("reading").replaceChildren(count ? "Waiting for the server" : "");
  clearTimeout(waiting);
  if (count) waiting = setTimeout(readSelection, SETTLE);
}

/** Read the selected documents ahead of a question. */
async function readSelection() {
  const stopped = stopReading = new AbortController();
  const status = byId("reading");
  const bar = make("progress", {max: 1, value: 0, "aria-label": "Progress"});
  const line = make("span", {textContent: "Waiting for the server"});
  let task = null;
  status.replaceChildren(line);
  try {
    const response = await post("/v1/documents/read", {documents: selected()}, stopped.signal);
    for await (const event of events(response)) {
      if (event.progress) {
        const {done, total} = event.progress;
        if (task !== event.progress.task) announce(task = event.progress.task);
        line.textContent = progressText(event.progress);
        bar.value = done / Math.max(1, total);
        if (!bar.isConnected) status.append(bar);
      } else if (event.stage) {
        line.textContent = event.stage.text;
        bar.remove();
        announce(event.stage.text);
      } else if (event.done) {
        const {document_tokens: tokens, warnings} = event.done;
        line.textContent = `Ready: ${counted(tokens, "token")}`;
        status.replaceChildren(line, ...(warnings.length ? [warningList(warnings)] : []));
        announce(line.textContent);
      }
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    status.replaceChildren(make("span", {className: "bad", role: "alert",
      textContent: error.message}));
  }
}

async function upload(file) {
  const form = new FormData();
  form.append("purpose", "user_data");
  form.append("file", file);
  const item = make("li", {}, make("span", {textContent: `${file.name}: uploading`}));
  byId("documents").append(item);
  try {
    const sent = await (await call("/v1/files", {method: "POST", body: form})).json();
    item.remove();
    add(sent.id, sent.filename);
  } catch (error) {
    const remove = make("button", {type: "button", textContent: "✕",
      "aria-label": `Remove ${file.name}`});
    remove.addEventListener("click", () => item.remove());
    item.replaceChildren(make("span", {className: "bad", role: "alert",
      textContent: `${file.name}: ${error.message}`}), remove);
  }
}

/** List the files on the server whose path has the words of the search field. */
async function search() {
  const query = byId("search").value.trim();
  const number = ++searches;
  try {
    const found = await (await call(`/v1/documents?${new URLSearchParams({query})}`)).json();
    if (number !== searches) return;
    serves = found;
    const isUrl = /^https?:\/\/\S+$/.test(query);
    const files = found.data.map(each => fileButton(each.id));
    if (isUrl && found.fetches_urls) files.unshift(fileButton(query));
    byId("found").replaceChildren(...files.map(button => make("li", {}, button)));
    byId("more").textContent = found.has_more ? `The first ${found.data.length} files; type to search`
      : files.length ? "" : isUrl ? "This server fetches no URLs"
      : found.root ? "No file has these words in its path" : "";
    markAdded();
  } catch (error) {
    byId("more").textContent = error.message;
  }
}

function fileButton(id) {
  const button = make("button", {type: "button", textContent: id});
  button.dataset.id = id;
  button.addEventListener("click", () => documents.has(id) ? drop(id) : add(id, id));
  return button;
}

/** Mark the files of the list that are among the documents. */
function markAdded() {
  for (const button of document.querySelectorAll("#found button")) {
    const there = documents.has(button.dataset.id);
    button.setAttribute("aria-pressed", String(there));
  }
}

/** Move the focus through the search field and its results. */
function moveInList(event) {
  const stops = [byId("search"), ...document.querySelectorAll("#found button")];
  const at = stops.indexOf(document.activeElement);
  const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
  if (step && stops[at + step]) {
    event.preventDefault();
    stops[at + step].focus();
  } else if (event.key === "Enter" && at === 0 && stops[1]) {
    event.preventDefault();
    stops[1].click();
  }
}

/** Listen to the elements of the list, and show what the server has. */
export async function startDocuments() {
  byId("files").addEventListener("change", () => {
    for (const file of byId("files").files) upload(file);
    byId("files").value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, event => {
      event.preventDefault();
      byId("drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop") for (const file of event.dataTransfer.files) upload(file);
    });
  }
  let typed = null;
  byId("search").addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(search, SETTLE);
  });
  byId("served").addEventListener("keydown", moveInList);
  changed();
  await search();
  byId("served").hidden = !(serves.root || serves.fetches_urls);
  const label = serves.root && serves.fetches_urls ? "Search files, or enter a URL"
    : serves.root ? "Search files on the server" : "Enter a URL";
  byId("search").placeholder = label;
  byId("search").setAttribute("aria-label", label);
}
