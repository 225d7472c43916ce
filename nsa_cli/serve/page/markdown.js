// A conversation as Markdown.

/** A citation's place: file, page and lines. */
export function place(citation) {
  const label = citation.page_label ? ` (${citation.page_label})` : "";
  const unit = citation.unit === "page" ? "p." : citation.unit;
  const page = citation.page === null ? "" : `, ${unit} ${citation.page}${label}`;
  const {line_start: first, line_end: last} = citation;
  return `${citation.source}${page}, line${first === last ? "" : "s"} ${first}`
    + (first === last ? "" : `–${last}`);
}

const oneLine = text => text.replace(/\s+/g, " ").trim();

/** All turns with their documents, answers and citations. */
export function conversationMarkdown(turns, model) {
  const parts = ["# Questions and answers", `Answered by ${model} with nsa.`];
  let about = null;
  for (const {question, answer, citations, names, warnings} of turns) {
    const documents = names.join(", ");
    parts.push(`## ${oneLine(question)}`);
    if (documents !== about) parts.push(documents ? `About ${documents}.` : "Without a document.");
    about = documents;
    parts.push(answer.trim());
    if (warnings.length) parts.push(warnings.map(each => `- Warning: ${oneLine(each)}`).join("\n"));
    parts.push(...citations.map((citation, number) =>
      `${number + 1}. ${place(citation)}${citation.verified ? "" : " (not verified)"}\n`
      + `   > ${oneLine(citation.quote)}`));
  }
  return parts.join("\n\n") + "\n";
}
