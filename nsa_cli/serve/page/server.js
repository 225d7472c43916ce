// Requests to the server that sent this page; there are no others.

import {byId} from "./elements.js";

let keyAsked = null;

/** Ask for the API key, once for all requests that wait for it. */
function askForKey() {
  keyAsked ??= new Promise(resolve => {
    byId("locked").showModal();
    byId("locked").addEventListener("close", () => {
      sessionStorage.setItem("key", byId("key").value);
      byId("key").value = "";
      keyAsked = null;
      resolve();
    }, {once: true});
  });
  return keyAsked;
}

/** Fetch a path; errors have the server's message. */
export async function call(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = {...options.headers, ...(key ? {Authorization: `Bearer ${key}`} : {})};
  const response = await fetch(path, {...options, headers});
  if (response.status === 401) {
    await askForKey();
    return call(path, options);
  }
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new Error(body?.error?.message ?? `the server responded with ${response.status}`);
  }
  return response;
}

export const post = (path, value, signal) => call(path, {
  method: "POST", body: JSON.stringify(value), signal,
  headers: {"Content-Type": "application/json"},
});

/** The server-sent events of a response. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ") || part === "data: [DONE]") continue;
      const event = JSON.parse(part.slice(6));
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}
