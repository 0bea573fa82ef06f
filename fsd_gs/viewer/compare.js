// Side by side: one camera for all of them, and stars. Keys: arrows turn, + and - zoom, l links, 1 to 4 star, Escape goes back.
(() => {
  const linked = document.getElementById("linked"), said = document.getElementById("said");
  const articles = [...document.querySelectorAll("article")];
  const link = () => (linked.checked ? SplatViewer.link : SplatViewer.unlink)(splatViewers);
  linked.addEventListener("change", link);
  link();

  async function star(article) {
    const button = article.querySelector(".star"), on = button.getAttribute("aria-pressed") !== "true";
    const query = new URLSearchParams({ act: on ? "star" : "unstar", asset: article.dataset.asset });
    const answer = await fetch(`/do?${query}`, { headers: { "X-Fsd-Gs": "act" } });
    const found = await answer.json();
    if (answer.ok) button.setAttribute("aria-pressed", String(found.starred));
    said.textContent = found.detail || "";
    said.hidden = answer.ok;
  }

  for (const article of articles) article.querySelector(".star").addEventListener("click", () => star(article));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "l") { linked.checked = !linked.checked; link(); }
    else if (event.key === "Escape") location.assign("/assets");
    else if (articles[Number(event.key) - 1]) star(articles[Number(event.key) - 1]);
  });
  articles[0].querySelector("canvas").focus({ preventScroll: true });
})();
