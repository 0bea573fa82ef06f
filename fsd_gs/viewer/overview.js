// The overview: search, sort, stars, names, the bin, marks for comparing; all of it by mouse and by keyboard. Text is only ever set as text.
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const main = $("main"), search = $("[aria-label=Search]"), sort = $("[aria-label=Sort]"), compare = $("#compare"), bin = $("#bin");
  const menu = $("#menu"), naming = $("#naming"), keys = $("#keys"), said = $("#said");
  const MOST = 4;
  const newest = (a, b) => b.dataset.made - a.dataset.made;
  const orders = {
    made: newest,
    score: (a, b) => b.dataset.score - a.dataset.score || newest(a, b),
    starred: (a, b) => (b.dataset.starred === "true") - (a.dataset.starred === "true") || newest(a, b),
    prompt: (a, b) => a.dataset.prompt.localeCompare(b.dataset.prompt) || a.dataset.seed - b.dataset.seed,
    seed: (a, b) => a.dataset.seed - b.dataset.seed || a.dataset.prompt.localeCompare(b.dataset.prompt),
  };
  let last = null; // the deletion that undo takes back
  let current = null; // the card that the menu is about

  const cards = () => [...main.children];
  const shown = () => cards().filter((card) => !card.hidden);
  const marked = () => cards().filter((card) => $(".pick input", card).checked);

  // Every word of the search must be in the prompt or the name, or be the seed.
  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const card of cards()) {
      const text = `${card.dataset.prompt} ${card.dataset.title}`.toLowerCase();
      card.hidden = !words.every((word) => text.includes(word) || word === card.dataset.seed);
    }
    main.append(...cards().sort(orders[sort.value]));
    $("#nothing").hidden = shown().length > 0;
    $("#count").textContent = `${cards().length} asset${cards().length === 1 ? "" : "s"}`;
    mark();
  }

  function mark() {
    const count = marked().length;
    compare.disabled = count < 2;
    compare.textContent = count ? `Compare ${count}` : "Compare";
    for (const card of cards()) $(".pick input", card).disabled = count >= MOST && !$(".pick input", card).checked;
  }

  function say(line, undo = false) {
    $("span", said).textContent = line;
    $("button", said).hidden = !undo;
    said.hidden = !line;
  }

  async function act(name, fields) {
    try {
      const answer = await fetch(`/do?${new URLSearchParams({ act: name, ...fields })}`, { headers: { "X-Fsd-Gs": "act" } });
      const found = await answer.json();
      if (answer.ok) return found;
      say(found.detail);
    } catch { say("the viewer does not answer; is it still running?"); }
    return null;
  }

  // -- what is done to a card ------------------------------------------------------------------------------------------

  const link = (how) => (card) => location.assign(`/index.html?${new URLSearchParams({ [how]: card.dataset.asset })}`);

  async function star(card) {
    const found = await act(card.dataset.starred === "true" ? "unstar" : "star", { asset: card.dataset.asset });
    if (!found) return;
    card.dataset.starred = String(found.starred);
    $(".star", card).setAttribute("aria-pressed", String(found.starred));
  }

  function pick(card) {
    const box = $(".pick input", card);
    if (!box.disabled) box.checked = !box.checked;
    mark();
  }

  function rename(card) {
    current = card;
    $("input", naming).value = card.dataset.title || card.dataset.prompt;
    naming.showModal();
    $("input", naming).select();
  }

  naming.addEventListener("close", async () => {
    const card = current, title = $("input", naming).value.trim();
    if (naming.returnValue !== "ok") return focus(card);
    naming.returnValue = "";
    const found = await act("rename", { asset: card.dataset.asset, title: title === card.dataset.prompt ? "" : title });
    if (found) {
      card.dataset.title = found.title === found.prompt ? "" : found.title;
      $(".prompt", card).textContent = found.title;
    }
    focus(card);
  });

  async function remove(card) {
    const at = shown().indexOf(card);
    const found = await act("delete", { asset: card.dataset.asset });
    if (!found) return;
    card.remove();
    const row = document.createElement("li"), words = document.createElement("span"), button = document.createElement("button");
    row.dataset.binned = found.binned;
    words.textContent = `${found.title} · seed ${found.seed}`;
    Object.assign(button, { type: "button", textContent: "Restore" });
    row.append(words, " ", button);
    $("ul", bin).prepend(row);
    row.card = card;
    last = row;
    count();
    show();
    say(`${found.title}, seed ${found.seed}: in the bin`, true);
    focus(shown()[Math.min(at, shown().length - 1)]);
  }

  async function restore(row) {
    if (!row) return;
    const found = await act("restore", { asset: row.dataset.binned });
    if (!found) return;
    row.remove();
    if (last === row) last = $("li", bin);
    if (!row.card) return location.reload(); // deleted before this page was loaded
    main.append(row.card);
    count();
    show();
    say("");
    focus(row.card);
  }

  function count() {
    const rows = bin.querySelectorAll("li").length;
    $("summary span", bin).textContent = String(rows);
    bin.hidden = !rows;
  }

  const forms = Object.fromEntries(["like", "seeds", "again", "edit", "refine"].map((how) => [how, link(how)]));
  const deeds = { open: link("asset"), ...forms, rename, delete: remove };
  const letters = { l: "like", o: "seeds", a: "again", e: "edit", f: "refine", r: "rename", Delete: "delete" };

  function openMenu(card) {
    current = card;
    $(".prompt", menu).textContent = `${card.dataset.title || card.dataset.prompt} · seed ${card.dataset.seed}`;
    menu.showModal();
  }

  // -- mouse and touch -------------------------------------------------------------------------------------------------

  main.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (event.target.closest(".star")) star(card);
    else if (event.target.closest(".more")) openMenu(card);
  });
  main.addEventListener("change", mark);
  menu.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (button || event.target === menu) menu.close();
    if (button) deeds[button.dataset.do](current);
  });
  for (const dialog of [naming, keys]) dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  bin.addEventListener("click", (event) => event.target.tagName === "BUTTON" && restore(event.target.closest("li")));
  $("button", said).addEventListener("click", () => restore(last));
  compare.addEventListener("click", side);
  $("#help").addEventListener("click", () => keys.showModal());
  search.addEventListener("input", show);
  sort.addEventListener("change", show);

  function side() {
    const chosen = marked().map((card) => ["asset", card.dataset.asset]);
    if (chosen.length > 1) location.assign(`/compare?${new URLSearchParams(chosen)}`);
    else say("mark two to four assets first (key c)");
  }

  // -- keyboard --------------------------------------------------------------------------------------------------------

  function focus(card) { if (card && card.isConnected) $(".open", card).focus(); }

  function neighbour(card, key) {
    const all = shown(), at = all.indexOf(card);
    if (at < 0) return all[0];
    const columns = all.filter((other) => other.offsetTop === all[0].offsetTop).length;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
    return all[at + by] || card;
  }

  const byLetter = Object.fromEntries(Object.entries(letters).map(([key, deed]) => [key, deeds[deed]]));
  const typed = { s: star, c: pick, m: openMenu, ...byLetter, Backspace: remove };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const dialog = document.querySelector("dialog[open]"), writes = event.target.matches("input:not([type=checkbox]), select");
    if (dialog === menu && !["Enter", "Escape", "Tab"].includes(event.key)) {
      const button = letters[event.key];
      if (button) { event.preventDefault(); menu.close(); deeds[button](current); }
      return;
    }
    if (dialog) return;
    if (writes) {
      if (event.key === "Escape" || (event.key === "ArrowDown" && event.target === search)) { event.target.blur(); focus(shown()[0]); }
      return;
    }
    const card = document.activeElement.closest(".card");
    if (event.key.startsWith("Arrow")) { event.preventDefault(); focus(neighbour(card, event.key)); }
    else if (event.key === "/") { event.preventDefault(); search.focus(); }
    else if (event.key === "?") keys.showModal();
    else if (event.key === "v") side();
    else if (event.key === "u") restore(last);
    else if (card && typed[event.key]) { event.preventDefault(); typed[event.key](card); }
  });

  last = $("li", bin);
  show(); // a browser that goes back keeps what was typed and marked
})();
