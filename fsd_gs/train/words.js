// Every word of the search must begin a word of the kind.
(() => {
  const search = document.querySelector("input"), articles = [...document.querySelectorAll("article")];
  function show() {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const article of articles) {
      const words = article.dataset.words.toLowerCase().split(/[\s,()]+/);
      article.hidden = !wanted.every((word) => words.some((known) => known.startsWith(word)));
    }
    document.querySelector(".none").hidden = articles.some((article) => !article.hidden);
  }
  search.addEventListener("input", show);
  show();
})();
