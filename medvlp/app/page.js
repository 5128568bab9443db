"use strict";

const $ = (selector) => document.querySelector(selector);
const SHOWN_TAGS = 8;
const SOURCES = { region: "regions", global: "whole image", tag: "tags" };
const state = {
  about: null, key: null, source: null, chosen: null, tags: [], note: [""], asked: 0, opened: 0, busy: 0,
};

async function call(path, options) {
  const response = await fetch(path, options);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error || "Something went wrong; the terminal that runs medvlp says what.");
  return answer;
}

const post = (path, content) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });

function say(text) {
  $("#message").textContent = text;
  $("#message").hidden = !text;
}

function note(text, odd = false) {
  $("#notes").textContent = text;
  $("#notes").hidden = !text;
  $("#notes").classList.toggle("odd", odd);
}

/* Run something that takes a moment; what goes wrong is said. */
async function busy(work) {
  state.busy += 1;
  document.body.classList.add("busy");
  try {
    await work();
  } catch (error) {
    say(error instanceof TypeError ? "The file cannot be sent, or medvlp does not run any more in its terminal." : error.message);
  } finally {
    state.busy -= 1;
    document.body.classList.toggle("busy", state.busy > 0);
  }
}

function show(seen) {
  Object.assign(state, { key: seen.key, chosen: null, asked: state.asked + 1 });
  $("#radiograph").src = seen.image;
  $("#drop").hidden = true;
  $("#stage").hidden = $("#tools").hidden = false;
  hideHeat();
  const [x1, y1, x2, y2] = seen.window.map((share) => 100 * share);
  state.framed = x1 > 0 || y1 > 0 || x2 < 100 || y2 < 100;
  Object.assign($("#window").style, { left: `${x1}%`, top: `${y1}%`, width: `${x2 - x1}%`, height: `${y2 - y1}%` });
  const drawn = seen.drawn ? `A synthetic image, drawn with: ${seen.drawn.join(", ")}.` : "";
  state.note = [`${seen.caveat} ${drawn}`.trim(), Boolean(seen.caveat)];
  note(...state.note);
}

function hideHeat() {
  $("#heat").hidden = $("#scale").hidden = $("#window").hidden = true;
  $("#caption").textContent = "The radiograph as it is";
  $("#meaning").textContent = "";
}

/* Open an image; the answer to an image that was left meanwhile is not shown. */
const open = (path, options) => busy(async () => {
  const number = ++state.opened;
  say("");
  note("Looking at the image ...");
  let seen;
  try {
    seen = await call(path, { method: "POST", ...options });
  } catch (error) {
    if (number !== state.opened) return;
    note(...state.note);
    throw error;
  }
  if (number !== state.opened) return;
  show(seen);
  await score();
});

const openFile = (file) => open("image", { body: file, headers: { "Content-Type": "application/octet-stream" } });

async function score() {
  if (!state.key) return;
  const key = state.key;
  const { findings, tags } = await post("scores", { key, findings: $("#findings").value });
  if (key !== state.key) return;
  findings.sort((a, b) => b[1] - a[1]);
  state.tags = tags.sort((a, b) => b[1] - a[1]);
  list("#scores", findings);
  listTags();
  $("#score-meaning").hidden = !findings.some(([, value]) => value !== null);
}

function listTags() {
  list("#tags", state.allTags ? state.tags : state.tags.slice(0, SHOWN_TAGS), "tag");
  $("#all-tags").textContent = state.allTags ? "Show fewer" : `Show all ${state.tags.length}`;
}

/* Fill a list with rows [text, score]; a click on one shows its heat map, of a source if one is named. */
function list(section, rows, source) {
  $(section).hidden = !rows.length;
  $(`${section} ol`).replaceChildren(...rows.map(([text, value]) => {
    const button = document.createElement("button");
    const name = document.createElement("span");
    name.textContent = text;
    button.append(name);
    if (value !== null) button.append(bar(value, source ? 0 : 0.5), number(value));
    button.type = "button";
    button.dataset.text = text;
    button.dataset.source = source || "";
    button.addEventListener("click", () => busy(() => choose(text, source)));
    const row = document.createElement("li");
    row.append(button);
    return row;
  }));
  press();
}

function number(value) {
  const output = document.createElement("output");
  output.textContent = value.toFixed(2);
  return output;
}

/* A bar on a rail from 0 to 1, to the right or to the left of what says nothing. */
function bar(value, zero) {
  const make = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(attributes).forEach(([key, content]) => element.setAttribute(key, content));
    return element;
  };
  const svg = make("svg", { viewBox: "0 0 100 7", preserveAspectRatio: "none", "aria-hidden": "true" });
  const [x, width] = [100 * Math.min(value, zero), 100 * Math.abs(value - zero)];
  svg.append(
    make("rect", { class: "rail", width: 100, height: 7 }),
    make("rect", { class: value > zero ? "above" : "below", x, width, height: 7 }),
    make("rect", { class: "zero", x: 100 * zero - 0.5, width: 1, height: 7 }),
  );
  return svg;
}

function press() {
  for (const button of document.querySelectorAll("li button")) {
    const { text, source } = button.dataset;
    const chosen = state.chosen && text === state.chosen.text && source === (state.chosen.source || "");
    button.setAttribute("aria-pressed", String(Boolean(chosen)));
  }
}

/* Show where the model sees a text; chosen again, the radiograph as it is. */
async function choose(text, source) {
  const again = state.chosen && state.chosen.text === text && state.chosen.source === source;
  state.chosen = again ? null : { text, source };
  press();
  if (again) {
    state.asked += 1;
    return hideHeat();
  }
  await heat(source || state.source);
}

async function heat(source) {
  const { text } = state.chosen;
  const number = ++state.asked;
  const answer = await post("heat_map", { key: state.key, text, source }).catch((error) => {
    if (number !== state.asked) return null;
    state.chosen = null;
    press();
    hideHeat();
    throw error;
  });
  if (number !== state.asked) return;
  say("");
  $("#heat").src = answer.image;
  $("#high").textContent = answer.high.toFixed(2);
  $("#low").textContent = answer.low.toFixed(2);
  $("#scale figcaption").textContent = answer.name;
  $("#heat").hidden = $("#scale").hidden = $("#window").hidden = false;
  $("#caption").textContent = text;
  $(`#sources [value="${source}"]`).checked = true;
  $("#meaning").textContent = state.about.sources[source] + (state.framed ? ` ${state.about.frame}` : "");
}

function another() {
  Object.assign(state, { key: null, chosen: null, asked: state.asked + 1, opened: state.opened + 1, note: [""] });
  $("#drop").hidden = false;
  $("#stage").hidden = $("#tools").hidden = $("#scores").hidden = $("#tags").hidden = true;
  $("#meaning").textContent = "";
  say("");
  note("");
}

function describe(about) {
  state.about = about;
  const names = Object.keys(about.sources);
  state.source = names[0];
  $("#findings").value = about.findings.join(", ");
  $("#score-meaning").textContent = about.score;
  $("#colours").style.backgroundImage = `url(${about.scale})`;
  names.forEach((source, position) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "source", value: source });
    input.checked = !position;
    input.addEventListener("change", () => {
      state.source = source;
      if (state.chosen) busy(() => heat(source));
    });
    label.append(input, SOURCES[source] || source);
    label.title = about.sources[source];
    $("#sources").append(label);
  });
  const { dataset, images, synthetic } = about.trained_on;
  const data = dataset ? `, trained on ${images ? `${images.toLocaleString("en")} images of ` : ""}${dataset}` : "";
  $("footer").textContent = `Model: ${about.name}${data}${synthetic ? " (synthetic)" : ""}. medvlp ${about.version}.`;
}

$("#choose").addEventListener("click", () => $("#file").click());
$("#another").addEventListener("click", another);
$("#synthetic").addEventListener("click", () => open("synthetic"));
$("#file").addEventListener("change", (event) => {
  if (event.target.files.length) openFile(event.target.files[0]);
  event.target.value = "";
});
$("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.key) busy(score);
  else say("Open an image first.");
});
$("#findings").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("#ask").requestSubmit();
});
$("#opacity input").addEventListener("input", (event) => {
  $("#heat").style.opacity = event.target.value;
});
$("#all-tags").addEventListener("click", () => {
  state.allTags = !state.allTags;
  listTags();
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
});

busy(async () => describe(await call("about")));
