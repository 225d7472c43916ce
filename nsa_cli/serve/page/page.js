// The page of `nsa serve`: documents on the left, questions and answers, the page of a citation.

import {ask, isAsking, startConversation, stopAsking} from "./conversation.js";
import {startDocuments} from "./documents.js";
import {byId} from "./elements.js";
import {call} from "./server.js";
import {closeViewer, startViewer} from "./viewer.js";

byId("ask").addEventListener("submit", event => {
  event.preventDefault();
  const question = byId("question").value.trim();
  if (!question || isAsking()) return;
  byId("question").value = "";
  ask(question);
});

byId("question").addEventListener("keydown", event => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("ask").requestSubmit();
  }
});

byId("stop").addEventListener("click", stopAsking);

document.addEventListener("keydown", event => {
  if (event.key !== "Escape" || byId("locked").open) return;
  if (isAsking()) stopAsking();
  else if (!byId("viewer").hidden) closeViewer();
});

function setColors(value) {
  document.documentElement.dataset.colors = value;
  byId("colors").value = value;
}

byId("colors").addEventListener("change", () => {
  localStorage.setItem("colors", byId("colors").value);
  setColors(byId("colors").value);
});

setColors(localStorage.getItem("colors") ?? "");
startConversation();
startViewer();
startDocuments();
call("/v1/models").then(async response => {
  byId("model").textContent = (await response.json()).data[0].id;
}).catch(error => { byId("model").textContent = error.message; });
