// The page of the app: asks, shows the queue and the assets as the events tell, and opens the viewer. Text is only ever set as text.
(() => {
  const $ = (id) => document.getElementById(id);
  const assets = new Map();
  let seen = 0;

  const make = (tag, fields = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), fields);
    element.append(...children);
    return element;
  };
  const say = (line) => { $("said").textContent = line; $("said").hidden = !line; };
  const file = (asset, name) => `/assets/${encodeURIComponent(asset.id)}/files/${encodeURIComponent(name)}`;
  const word = (asset) => asset.quality !== "good" && asset.quality;  // what is usual is not said
  const minutes = (seconds) => (seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`) + " left";

  async function call(method, address, body) {
    const options = { method };
    if (body) { options.body = JSON.stringify(body); options.headers = { "Content-Type": "application/json" }; }
    try {
      const answer = await fetch(address, options);
      const found = await answer.json();
      if (answer.ok) return found;
      say(found.detail);
    } catch { say("the app does not answer; is it still running?"); }
    return null;
  }

  $("ask").addEventListener("submit", async (event) => {
    event.preventDefault();
    say("");
    const form = new FormData(event.target), seed = form.get("seed");
    const wanted = { prompt: form.get("prompt"), by: form.get("by"), preset: form.get("preset"), quality: form.get("quality"), settings: form.get("settings").split(/\s+/).filter(Boolean) };
    try { localStorage.setItem("by", wanted.by); } catch { /* a browser may forbid it */ }
    for (let i = 0; i < Number(form.get("count")); i++) {
      const asset = await call("POST", "/assets", seed === "" ? wanted : { ...wanted, seed: Number(seed) + i });
      if (!asset) return;
      take(asset);
    }
    show();
  });

  // The words that the prior knows, while a prompt is typed; answers to what is no longer there are dropped.
  $("ask").elements.prompt.addEventListener("input", async (event) => {
    const prompt = event.target.value, preset = $("ask").elements.preset;
    const found = preset.selectedIndex === 0 && (await call("GET", `/words?${new URLSearchParams({ prompt })}`));
    if (prompt !== event.target.value) return;
    $("completions").replaceChildren(...(found ? found.completions.map((value) => make("option", { value })) : []));
    $("misunderstood").textContent = found ? found.misunderstood.join("; ") : "";
    $("misunderstood").hidden = !$("misunderstood").textContent;
  });

  const notes = (asset) => asset.notes.map((line) => make("span", { className: "facts note", textContent: line }));

  function picture(asset) {
    if (!asset.files.includes("thumbnail.jpg")) return make("span", { className: "blank" });
    return make("img", { alt: "", src: `${file(asset, "thumbnail.jpg")}?${asset.state}-${Math.floor(asset.step / 50)}` });
  }

  function row(asset) {
    const making = asset.state === "making", left = asset.seconds_left == null ? "" : ` · ${minutes(asset.seconds_left)}`;
    const state = making ? (asset.step ? `step ${asset.step} of ${asset.steps}${left}` : "starting …") : `waits, number ${asset.position}`;
    const facts = [`seed ${asset.seed}`, word(asset), asset.by && `for ${asset.by}`, state].filter(Boolean).join(" · ");
    const buttons = make("div", { className: "buttons" });
    const button = (words, keep) => buttons.append(make("button", { type: "button", textContent: words, onclick: () => call("DELETE", `/assets/${encodeURIComponent(asset.id)}?keep=${keep}`) }));
    if (making && asset.step) button("Stop and keep", true);
    button(making ? "Stop" : "Cancel", false);
    const middle = make("div", {}, make("div", { className: "prompt", textContent: asset.prompt }), make("div", { className: "facts", textContent: facts }));
    middle.append(...notes(asset));
    if (making) middle.append(make("progress", { max: asset.steps, value: asset.step }));
    const item = make("li", { className: "job" }, picture(asset), middle, buttons);
    item.dataset.id = asset.id;
    return item;
  }

  function card(asset) {
    const done = asset.state === "finished" || asset.state === "kept";
    const state = asset.state === "finished" ? `${asset.steps} steps` : `${asset.state} at step ${asset.step} of ${asset.steps}`;
    const item = make("button", { type: "button", className: "card", disabled: !done, onclick: () => open(asset) }, picture(asset),
      make("span", { className: "prompt", textContent: asset.prompt }),
      make("span", { className: "facts", textContent: [`seed ${asset.seed}`, word(asset), state, asset.by && `for ${asset.by}`].filter(Boolean).join(" · ") }));
    item.append(...notes(asset));
    if (asset.error) item.append(make("span", { className: "facts wrong", textContent: asset.error }));
    item.dataset.id = asset.id;
    return item;
  }

  function open(asset) {
    const dialog = $("viewer");
    dialog.querySelector("h2").textContent = `${asset.prompt} · seed ${asset.seed}`;
    dialog.querySelector("iframe").src = file(asset, "view.html");
    const links = asset.files.filter((name) => name !== "thumbnail.jpg").map((name) => make("a", { href: file(asset, name), download: "", textContent: name }));
    dialog.querySelector(".files").replaceChildren(...links);
    dialog.showModal();
  }
  $("viewer").querySelector("button").addEventListener("click", () => $("viewer").close());
  $("viewer").addEventListener("close", () => { $("viewer").querySelector("iframe").src = "about:blank"; });

  function show() {
    const all = [...assets.values()];
    const queue = all.filter((a) => a.state === "making" || a.state === "waiting");
    queue.sort((a, b) => (a.state === "making" ? 0 : a.position) - (b.state === "making" ? 0 : b.position));
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const rest = all.filter((a) => !queue.includes(a) && words.every((word) => `${a.prompt} ${a.by}`.toLowerCase().includes(word) || word === String(a.seed)));
    rest.sort((a, b) => b.version - a.version);
    update($("queue"), queue, row);
    update($("results"), rest, card);
    $("queue-count").textContent = queue.length ? String(queue.length) : "";
    $("results-count").textContent = rest.length ? String(rest.length) : "";
    $("idle").hidden = queue.length > 0;
    $("none").hidden = rest.length > 0;
  }

  // Only what changed is drawn again, so that a button does not vanish under the pointer.
  function update(list, wanted, draw) {
    const old = new Map([...list.children].map((item) => [item.dataset.id, item]));
    const items = wanted.map((asset) => {
      const mark = JSON.stringify(asset), before = old.get(asset.id);
      if (before && before.dataset.mark === mark) return before;
      const item = draw(asset);
      item.dataset.mark = mark;
      return item;
    });
    if (items.length !== list.children.length || items.some((item, i) => item !== list.children[i])) list.replaceChildren(...items);
  }

  // An answer may be older than an event that overtook it. (The same version may have another position.)
  function take(asset) {
    seen = Math.max(seen, asset.version);
    if (asset.version >= (assets.get(asset.id)?.version ?? 0)) assets.set(asset.id, asset);
  }

  // Positions move when others leave the queue, without being changes of their own.
  async function refresh() {
    const found = await call("GET", "/assets?limit=1000");
    if (!found) return;
    found.forEach(take);
    show();
  }

  function listen() {
    const events = new EventSource(`/events?after=${seen}`);
    events.addEventListener("asset", (event) => {
      const asset = JSON.parse(event.data), before = assets.get(asset.id);
      take(asset);
      if (before && before.state === asset.state) show(); else refresh();
    });
    events.addEventListener("error", () => { events.close(); setTimeout(listen, 1000); });
  }

  try { document.querySelector("[name=by]").value = localStorage.getItem("by") || ""; } catch { /* a browser may forbid it */ }
  $("search").addEventListener("input", show);
  refresh().then(listen);
})();
