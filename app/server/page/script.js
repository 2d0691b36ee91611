"use strict";

const $ = (id) => document.getElementById(id);
const KINDS = ["image/png", "image/jpeg"];
let token = ""; // lives here alone: no storage, no cookie
let picture = null;
let running = null;

/** Makes an element; text never becomes markup. */
function make(tag, text = "", name = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = name;
  return element;
}

function say(text, failed = false) {
  if (failed) $("result").hidden = true; // it would stand beside another picture or model
  $("status").className = failed ? "failure" : "";
  $("status").textContent = text;
}

/** Sends a request; gives the status and what JSON came back. */
async function send(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers, cache: "no-store", redirect: "error" });
  const body = await answer.json().catch(() => ({ error: `the answer has status ${answer.status}` }));
  return { status: answer.status, ok: answer.ok, body };
}

/** Says what went wrong; asks for a token where one is missing. */
function refused({ status, body }) {
  const first = status === 401 && !token;
  say(first ? "This server asks for an access token." : body.error, !first);
  if (status !== 401) return;
  token = "";
  $("access").hidden = false;
  $("token").focus();
}

async function listModels() {
  const answer = await send("/v2/repository/index", { method: "POST" });
  const secret = answer.status === 403; // asking a model may be allowed all the same
  if (!answer.ok && !secret) return refused(answer);
  $("listed").hidden = secret;
  $("unlisted").hidden = !secret;
  const states = new Map();
  for (const { name, state } of secret ? [] : answer.body) {
    if (states.get(name) !== "READY") states.set(name, state);
  }
  $("model").replaceChildren(...[...states].map(([name, state]) => {
    const ready = state === "READY"; // or will be by loading it, when it is asked
    const option = new Option(ready ? name : `${name} (${state.toLowerCase()})`, name);
    option.disabled = !ready;
    return option;
  }));
  $("access").hidden = true;
  if (secret) return say("Your rights don't let this page list models: write the name of one.");
  if (!states.size) return say("There is no model that you may use.", true);
  say(states.size === 1 ? "There is one model." : `There are ${states.size} models.`);
  if (picture) await classify();
}

async function showInsecure() {
  const { ok, body } = await send("/v2");
  const settings = ok ? body.audit.insecure_settings : [];
  $("insecure").textContent = settings.join(", ");
  $("insecure").hidden = $("insecure-title").hidden = settings.length === 0;
}

function take(file) {
  if (!file) return;
  if (!KINDS.includes(file.type)) {
    return say(`Expected a PNG or JPEG file, got ${file.type || "one of an unknown kind"}.`, true);
  }
  picture = file;
  URL.revokeObjectURL($("preview").src);
  $("preview").src = URL.createObjectURL(file);
  $("preview").alt = `Your picture: ${file.name}`;
  $("preview").hidden = false;
  attempt(classify);
}

async function classify() {
  const name = $("listed").hidden ? $("name").value.trim() : $("model").value;
  if (!picture) return say("Choose a picture first.", true);
  if (!name) return say("Choose a model first.", true);
  running?.abort();
  const mine = running = new AbortController();
  $("result").ariaBusy = "true";
  say(`Asking ${name} …`);
  const answer = await send(`/v1/models/${encodeURIComponent(name)}/classify`, {
    method: "POST", body: picture, headers: { "Content-Type": picture.type }, signal: mine.signal,
  });
  if (mine.signal.aborted) return;
  if (!answer.ok) return refused(answer);
  show(answer.body);
}

function show({ model, labels, timing, memory }) {
  showLabels(labels);
  showTime(timing);
  showMemory(memory);
  $("result").ariaBusy = "false";
  $("result").hidden = false;
  const [best] = labels;
  say(`${model.id} version ${model.version}: ${best.label}, ${percent(best.probability)}.`);
}

function showLabels(labels) {
  $("labels").replaceChildren(...labels.map(({ label, probability }) => {
    const row = make("tr");
    const name = make("th", label);
    name.scope = "row";
    const cell = make("td");
    cell.append(bar([["run", 0, probability]]), make("span", percent(probability), "number"));
    row.append(name, cell);
    return row;
  }));
}

function showTime({ decode_ms, run_ms, partitions }) {
  const rows = [];
  const whole = partitions.reduce((sum, each) => sum + each.wait_ms + each.run_ms, 0) || 1;
  let now = 0;
  for (const { index, load_ms, wait_ms, run_ms: ran, weights_bytes } of partitions) {
    const start = now + wait_ms;
    const from = Math.max(0, start - load_ms);
    now = start + ran;
    const row = make("tr");
    const name = make("th", index);
    name.scope = "row";
    const line = make("td", "", "line");
    line.append(
      bar([
        ["decrypt", from / whole, (start - from) / whole],
        ["wait", (start - wait_ms) / whole, wait_ms / whole],
        ["run", start / whole, ran / whole],
      ]),
      make("span", `${from.toFixed(2)} to ${now.toFixed(2)}`, "unseen"),
    );
    const numbers = [load_ms, wait_ms, ran].map((each) => make("td", each.toFixed(2)));
    row.append(name, line, ...numbers, make("td", size(weights_bytes)));
    rows.push(row);
  }
  $("partitions").replaceChildren(...rows);
  $("time").textContent = `${rows.length} partitions: ${whole.toFixed(2)} ms. Picture decoded in ` +
    `${decode_ms.toFixed(2)} ms; queue and model together ${run_ms.toFixed(2)} ms.`;
}

function showMemory({ peak_bytes, budget_bytes }) {
  const share = peak_bytes / budget_bytes;
  $("memory-bar").style.width = width(share);
  $("memory").textContent = `At most ${size(peak_bytes)} for this run, of ${size(budget_bytes)} ` +
    `for all models: ${percent(share)}.`;
}

/** Draws parts, each a kind, where it starts and how long it is, as shares of the whole. */
function bar(parts) {
  const found = make("span", "", "bar");
  found.ariaHidden = "true";
  for (const [kind, start, share] of parts) {
    const part = make("i", "", kind);
    part.style.left = width(start);
    part.style.width = width(share);
    found.append(part);
  }
  return found;
}

const width = (share) => `${100 * Math.min(1, Math.max(0, share))}%`;
const percent = (share) => share === null ? "no number" : `${(100 * share).toFixed(1)} %`;

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1048576 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1048576).toFixed(1)} MiB`;
}

async function attempt(step) {
  try {
    await step();
  } catch (error) {
    if (error.name !== "AbortError") say("The server can't be reached.", true);
  }
}

async function start() {
  await listModels();
  if ($("access").hidden) await showInsecure();
}

$("picture").addEventListener("change", (event) => take(event.target.files[0]));
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(classify);
});
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  $("token").value = "";
  if (!/^[!-~]+$/.test(token)) return say("That is no token.", true);
  attempt(start);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  // Anywhere on the page: a file dropped beside the field would replace the page otherwise.
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
attempt(start);
