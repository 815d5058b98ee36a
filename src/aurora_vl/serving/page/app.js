// The page of `aurora serve`: it only asks the server it came from.

const RERANKED = 20;
const TOP = 40;
const PAUSE = 150; // milliseconds without a key until the words are searched for
const COOKIE = "aurora_token";

const $ = (id) => document.getElementById(id);
let picture = null; // a data URI to search by
let models = [];
let opened = null; // the hit whose dialog is open
let asked = 0; // number of the newest search; answers to older ones are dropped

/** A request to the API; rejects with the server's sentence. */
async function api(path, content) {
  const options = content && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(content),
  };
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer.");
  }
  if (reply.status === 401) {
    await login();
    return api(path, content);
  }
  const found = await reply.json();
  if (!reply.ok) throw new Error(found.error.message);
  return found;
}

/** Ask for a token and keep it until the browser is closed, where pictures are asked for with it. */
function login() {
  const dialog = $("login");
  const alert = dialog.querySelector("[role=alert]");
  alert.textContent = document.cookie.includes(COOKIE) ? "That token is not let in." : "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      const secure = location.protocol === "https:" ? "; Secure" : "";
      document.cookie = `${COOKIE}=${$("token").value.trim()}; path=/; SameSite=Strict${secure}`;
      dialog.close();
      resolve();
    };
  });
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const nameOf = (hit) => hit.path.split("/").pop();

function dataUri(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("The file cannot be read."));
    reader.readAsDataURL(blob);
  });
}

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

// Searching

async function search() {
  const number = ++asked;
  const words = $("query").value.trim();
  if (!words && !picture) {
    $("results").replaceChildren(element("p", { className: "empty", textContent: "Type what you look for, such as “a red star”, or drop a picture anywhere on this page." }));
    say("");
    return;
  }
  const chosen = [...new Set([$("model").value, $("beside").value].filter(Boolean))];
  try {
    const found = await Promise.all(chosen.map((model) => searchWith(model, words)));
    if (number !== asked) return;
    show(chosen, found);
    const took = Math.max(...found.map((each) => each.took_ms));
    say(`${found[0].results.length} results in ${Math.round(took)} ms`);
  } catch (error) {
    if (number === asked) say(error.message, true);
  }
}

function searchWith(model, words) {
  const able = models.find((each) => each.id === model)?.rerank;
  return api("/v1/search", {
    model,
    query: words || null,
    image: picture,
    kind: $("kind").value || null,
    top: TOP,
    rerank: able && words && $("rerank").checked ? RERANKED : 0,
  });
}

function show(names, found) {
  const columns = found.map(({ results }, place) => {
    const list = element("ol", { className: "grid" }, ...results.map((hit) => element("li", {}, card(hit))));
    if (!results.length) list.append(element("p", { className: "empty", textContent: "Nothing of this kind." }));
    const heading = element("h2", { textContent: names[place], hidden: found.length === 1 });
    const section = element("section", {}, heading, list);
    section.setAttribute("aria-label", `Results by ${names[place]}`);
    return section;
  });
  $("results").classList.toggle("beside", found.length > 1);
  $("results").replaceChildren(...columns);
}

function card(hit) {
  const poster = element("img", { src: `${hit.media}?thumbnail=true`, alt: "", loading: "lazy" });
  const frame = element("span", { className: "frame" }, poster);
  const label = element("span", {}, element("b", { textContent: nameOf(hit) }), element("i", { textContent: hit.score.toFixed(3) }));
  const made = element("button", { type: "button", className: "hit", title: hit.path }, frame, label);
  made.setAttribute("aria-label", `${nameOf(hit)}, ${hit.kind === "video" ? "video" : "picture"}`);
  made.onclick = () => openItem(hit);
  if (hit.kind === "video") {
    frame.append(element("span", { className: "mark", textContent: "▶ video" }));
    const play = () => {
      if (poster.isConnected) poster.replaceWith(player(hit, { muted: true, loop: true, autoplay: true }));
    };
    made.onmouseenter = made.onfocus = play;
    made.onmouseleave = made.onblur = () => frame.firstChild.replaceWith(poster);
  }
  return made;
}

/** What plays a video; animated pictures play by themselves. */
function player(hit, properties) {
  const span = hit.from === undefined ? "" : `#t=${hit.from},${hit.to}`;
  if (hit.type.startsWith("image/")) return element("img", { src: hit.media, alt: "" });
  return element("video", { src: hit.media + span, poster: `${hit.media}?thumbnail=true`, playsInline: true, ...properties });
}

async function searchByPicture(blob) {
  try {
    picture = await dataUri(blob);
  } catch (error) {
    say(error.message, true);
    return;
  }
  $("chosen").querySelector("img").src = picture;
  $("chosen").hidden = false;
  await search();
}

function removePicture() {
  picture = null;
  $("chosen").hidden = true;
  $("file").value = "";
  search();
  $("query").focus();
}

// One item: looked at, asked about, searched by

function openItem(hit) {
  opened = hit;
  const whole = hit.kind === "video"
    ? player(hit, { controls: true })
    : element("img", { src: hit.media, alt: nameOf(hit) });
  $("item-media").replaceChildren(whole);
  $("item-title").textContent = nameOf(hit);
  $("similar").hidden = hit.kind === "video";
  $("answers").replaceChildren();
  $("item").showModal();
}

async function ask(event) {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question) return;
  const [hit, model] = [opened, $("answering").value];
  const answer = element("p", { textContent: "…" });
  $("answers").prepend(answer);
  try {
    const url = await dataUri(await fetchMedia(hit));
    const part = hit.kind === "video" ? "video_url" : "image_url";
    const content = [{ type: "text", text: question }, { type: part, [part]: { url } }];
    const found = await api("/v1/chat/completions", { model, messages: [{ role: "user", content }] });
    const note = element("small", { textContent: `${question} (${model})` });
    answer.replaceChildren(note, element("br"), found.choices[0].message.content || "(no answer)");
  } catch (error) {
    answer.textContent = error.message;
    answer.className = "wrong";
  }
}

async function fetchMedia(hit) {
  const reply = await fetch(hit.media);
  if (!reply.ok) throw new Error("The file is gone.");
  return reply.blob();
}

async function findSimilar() {
  const hit = opened;
  $("item").close();
  $("query").value = "";
  try {
    await searchByPicture(await fetchMedia(hit));
  } catch (error) {
    say(error.message, true);
  }
}

// Setting up

function offer(select, names) {
  select.append(...names.map((name) => element("option", { value: name, textContent: name })));
}

async function start() {
  models = (await api("/v1/models")).data;
  const searchable = models.filter((model) => model.searchable).map((model) => model.id);
  const answering = models.filter((model) => model.abilities.includes("questions")).map((model) => model.id);
  // Adapters come first: they are what the backbone was tuned for.
  const adaptersFirst = (names) => [...names.slice(1), ...names.slice(0, 1)];
  offer($("model"), adaptersFirst(searchable));
  offer($("beside"), searchable);
  offer($("answering"), adaptersFirst(answering));
  $("model").parentElement.hidden = $("beside").parentElement.hidden = searchable.length < 2;
  $("answering").hidden = answering.length < 2;
  $("asking").hidden = !answering.length;
  $("rerank-label").hidden = !models.some((model) => model.rerank);
  if (!searchable.length) throw new Error("There is no gallery that these models can search.");
  await search();
}

let timer = 0;
$("query").oninput = () => {
  clearTimeout(timer);
  timer = setTimeout(search, PAUSE);
};
$("search").onsubmit = (event) => {
  event.preventDefault();
  clearTimeout(timer);
  search();
};
for (const id of ["kind", "model", "beside", "rerank"]) $(id).onchange = search;
$("file").onchange = () => $("file").files.length && searchByPicture($("file").files[0]);
$("chosen").querySelector("button").onclick = removePicture;
$("ask").onsubmit = ask;
$("similar").onclick = findSimilar;
$("item").onclose = () => $("item-media").replaceChildren();
$("login").oncancel = (event) => event.preventDefault();

document.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
};
document.ondragleave = (event) => event.relatedTarget || document.body.classList.remove("dropping");
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const file = [...event.dataTransfer.files].find((each) => each.type.startsWith("image/"));
  if (file) searchByPicture(file);
  else say("Drop a picture.", true);
};

start().catch((error) => say(error.message, true));
