// Filters of the overview: by state, verdict and words. UNITS is the manifest as rows of arrays; cards are made as they are needed.
(() => {
  const [STATE, LABEL, PROMPT, SEED, VERDICT, SPLATS, SECONDS, ATTEMPT, ERROR, FOLDER, FILES] = Array(11).keys();
  const PAGE = 240;
  const main = document.querySelector("main"), search = document.querySelector("input"), verdict = document.querySelector("select");
  const more = document.querySelector(".more button"), states = [...document.querySelectorAll("nav button")];
  let state = "", found = [], shown = 0;

  function element(kind, style, text) {
    const made = document.createElement(kind);
    made.className = style;
    made.textContent = text;
    return made;
  }

  function link(unit, file, text) {
    const made = element("a", "", text);
    made.href = encodeURI(`${unit[FOLDER]}/${file}`);
    return made;
  }

  function card(unit) {
    const made = element("article", `card ${unit[STATE]}`, ""), files = unit[FILES];
    const still = element("div", "still", "");
    if (files.includes("preview.png")) {
      const picture = document.createElement("img");
      picture.loading = "lazy";
      picture.alt = unit[PROMPT];
      picture.src = encodeURI(`${unit[FOLDER]}/preview.png`);
      const opened = link(unit, files.includes("turntable.mp4") ? "turntable.mp4" : "preview.png", "");
      opened.className = "still";
      opened.append(picture);
      made.append(opened);
    } else {
      made.classList.add("empty");
      still.textContent = unit[STATE];
      made.append(still);
    }
    made.append(element("span", "prompt", unit[LABEL]));
    const facts = [`seed ${unit[SEED]}`];
    if (unit[STATE] !== "done") facts.push(unit[STATE]);
    if (unit[VERDICT]) facts.push(unit[VERDICT]);
    if (unit[SPLATS]) facts.push(`${unit[SPLATS]} splats`);
    if (unit[SECONDS]) facts.push(`${Math.round(unit[SECONDS])} s`);
    if (unit[ATTEMPT] > 1) facts.push(`attempt ${unit[ATTEMPT]}`);
    made.append(element("span", "facts", facts.join(" · ")));
    if (unit[ERROR]) made.append(element("span", "facts error", unit[ERROR]));
    if (files.includes("splats.ply")) {
      const files_of = element("span", "facts", "");
      files_of.append(link(unit, "splats.ply", "splats.ply"));
      made.append(files_of);
    }
    return made;
  }

  function extend() {
    main.append(...found.slice(shown, shown + PAGE).map(card));
    shown = Math.min(shown + PAGE, found.length);
    more.hidden = shown >= found.length;
  }

  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = UNITS.filter((unit) => {
      const text = `${unit[LABEL]} ${unit[PROMPT]}`.toLowerCase();
      return (
        (!state || unit[STATE] === state) &&
        (!verdict.value || unit[VERDICT] === verdict.value) &&
        words.every((word) => text.includes(word) || word === String(unit[SEED]))
      );
    });
    main.replaceChildren();
    shown = 0;
    extend();
    document.querySelector(".none").hidden = found.length > 0;
  }

  for (const button of states) {
    button.addEventListener("click", () => {
      state = button.dataset.state;
      for (const other of states) other.setAttribute("aria-pressed", String(other === button));
      show();
    });
  }
  search.addEventListener("input", show);
  verdict.addEventListener("change", show);
  more.addEventListener("click", extend);
  show();
})();
