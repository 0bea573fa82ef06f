// Search and sort of the overview; every word of the search must be in the prompt or be the seed.
(() => {
  const main = document.querySelector("main"), cards = [...main.children];
  const search = document.querySelector("input"), sort = document.querySelector("select");
  const orders = {
    made: (a, b) => b.dataset.made - a.dataset.made,
    prompt: (a, b) => a.dataset.prompt.localeCompare(b.dataset.prompt) || a.dataset.seed - b.dataset.seed,
    seed: (a, b) => a.dataset.seed - b.dataset.seed || a.dataset.prompt.localeCompare(b.dataset.prompt),
  };
  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const card of cards) {
      const text = card.dataset.prompt.toLowerCase();
      card.hidden = !words.every((word) => text.includes(word) || word === card.dataset.seed);
    }
    main.append(...cards.sort(orders[sort.value]));
    document.querySelector(".none").hidden = cards.some((card) => !card.hidden);
  }
  search.addEventListener("input", show);
  sort.addEventListener("change", show);
  show(); // a browser that goes back keeps what was typed
})();
