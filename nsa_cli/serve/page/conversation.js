// Questions, their stages, answers and citations.

import {selected, selectedNames} from "./documents.js";
import {announce, byId, counted, make, progressText, warningList} from "./elements.js";
import {conversationMarkdown, place} from "./markdown.js";
import {events, post} from "./server.js";
import {show} from "./viewer.js";

const TURNS = 3;  // earlier turns that a question can refer to

const turns = [];
let asking = null;

export const isAsking = () => asking !== null;
export const stopAsking = () => asking?.abort();

/** A list of stages: each task that the server reports, with its latest amount. */
class Stages {
  constructor() {
    this.element = make("ul", {className: "stages", "aria-label": "Stages"});
    this.wait = make("li", {textContent: "Waiting for the server"});
    this.element.append(this.wait);
    this.tasks = new Map();
  }

  progress(progress) {
    let line = this.tasks.get(progress.task);
    if (!line) {
      line = make("li");
      this.tasks.set(progress.task, line);
      this.element.insertBefore(line, this.wait);
      announce(progress.task);
    }
    const done = progress.done >= progress.total;
    line.textContent = progressText(progress);
    line.classList.toggle("done", done);
    this.wait.hidden = !done;
    this.wait.textContent = "Waiting for the answer";
  }

  /** Show a step whose progress is not counted. */
  stage({text}) {
    this.wait.hidden = false;
    this.wait.textContent = text;
    announce(text);
  }

  /** Show what the answer took, in place of the stages. */
  finish(usage, seconds) {
    const {prompt_tokens_details: {cached_tokens: stored}, prompt_tokens: read,
      completion_tokens: answered} = usage;
    this.element.replaceChildren(make("li", {textContent:
      `${counted(read, "token")}, ${stored.toLocaleString("en")} of them stored before; `
      + `${counted(answered, "token")} answered; ${seconds.toFixed(1)}\u00a0s`}));
  }
}

/** Ask a question about the selected documents. */
export async function ask(question) {
  const names = selected();
  const turn = {question, answer: "", citations: [], warnings: [], names: selectedNames()};
  const answer = make("p", {className: "answer"});
  const stages = new Stages();
  const item = make("li", {}, make("h3", {className: "question", textContent: question}),
    stages.element, answer);
  const began = performance.now();
  byId("empty").hidden = true;
  if (matchMedia("(max-width: 50rem)").matches) byId("library").open = false;
  byId("answers").append(item);
  scrollDown();
  setAsking(new AbortController());
  try {
    const response = await post("/v1/chat/completions", {
      messages: [...earlier(), {role: "user", content: question}], documents: names, stream: true,
      stream_options: {include_progress: true, include_usage: true},
    }, asking.signal);
    for await (const event of events(response)) {
      if (event.progress) stages.progress(event.progress);
      if (event.stage) stages.stage(event.stage);
      for (const choice of event.choices) receive(choice, turn, {item, answer, stages, names});
      if (event.usage) stages.finish(event.usage, (performance.now() - began) / 1000);
      scrollDown();
    }
    announce(turn.answer ? `Answer complete, ${counted(turn.citations.length, "citation")}`
      : "No answer");
    if (!turn.answer) item.append(make("p", {className: "faint", textContent: "no answer"}));
  } catch (error) {
    const stopped = error.name === "AbortError";
    stages.element.remove();
    item.append(make("p", {className: stopped ? "faint" : "bad", role: "alert",
      textContent: stopped ? "stopped" : error.message}));
  } finally {
    setAsking(null);
    byId("question").focus();
    scrollDown();
  }
}

/** The last turns as messages. */
const earlier = () => turns.slice(-TURNS).flatMap(turn => [
  {role: "user", content: turn.question}, {role: "assistant", content: turn.answer}]);

/** Show one part of an answer. */
function receive({delta, finish_reason: reason}, turn, {item, answer, stages, names}) {
  if (delta.content) {
    stages.wait.hidden = true;
    turn.answer += delta.content;
    answer.append(delta.content);
  }
  if (reason === "length") {
    item.append(make("p", {className: "faint",
      textContent: "truncated: the answer reached the token limit"}));
  }
  if (delta.warnings) {
    turn.warnings = delta.warnings;
    item.append(warningList(delta.warnings));
  }
  if (delta.citations) {
    turn.citations = delta.citations;
    if (delta.citations.length) item.append(citationList(delta.citations, names));
  }
  if (reason) {
    turns.push(turn);
    setTools();
  }
}

function citationList(citations, names) {
  const list = make("ol", {className: "citations", "aria-label": "Citations"});
  citations.forEach((citation, number) => {
    const button = make("button", {type: "button", "aria-pressed": "false"},
      `[${number + 1}] ${place(citation)}${citation.verified ? "" : " (not verified)"}`,
      make("span", {className: "quote", textContent: `“${citation.quote.replace(/\s+/g, " ")}”`}));
    button.addEventListener("click", () => {
      for (const each of document.querySelectorAll(".citations button")) {
        each.setAttribute("aria-pressed", String(each === button));
      }
      show({names, source: citation.source, page: citation.page, line: citation.line_start,
        quote: citation.quote, from: button});
    });
    list.append(make("li", {}, button));
  });
  return list;
}

function scrollDown() {
  byId("answers").scrollTop = byId("answers").scrollHeight;
}

function setAsking(controller) {
  asking = controller;
  byId("stop").hidden = !controller;
  byId("send").hidden = Boolean(controller);
  setTools();
}

function setTools() {
  byId("copy").disabled = byId("save").disabled = !turns.length;
  byId("clear").disabled = !byId("answers").children.length || isAsking();
}

const markdown = () => conversationMarkdown(turns, byId("model").textContent);

async function copy() {
  try {
    await navigator.clipboard.writeText(markdown());
    announce("Copied");
    flash(byId("copy"), "Copied");
  } catch {  // browsers offer the clipboard only to this machine and over TLS
    announce("The browser refused; save it instead");
    flash(byId("copy"), "Refused; save it");
  }
}

function flash(button, text) {
  const label = button.textContent;
  if (label === text) return;
  button.textContent = text;
  setTimeout(() => { button.textContent = label; }, 1500);
}

function save() {
  const address = URL.createObjectURL(new Blob([markdown()], {type: "text/markdown"}));
  make("a", {href: address, download: "nsa-conversation.md"}).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function clear() {
  turns.length = 0;
  byId("answers").replaceChildren();
  byId("empty").hidden = false;
  setTools();
  byId("question").focus();
}

export function startConversation() {
  byId("copy").addEventListener("click", copy);
  byId("save").addEventListener("click", save);
  byId("clear").addEventListener("click", clear);
  for (const button of document.querySelectorAll("#examples button")) {
    button.addEventListener("click", () => {
      byId("question").value = button.textContent;
      byId("question").focus();
    });
  }
}
