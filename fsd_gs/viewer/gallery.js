
// The gallery around the splat viewers: tabs, downloads out of the page itself, copying a command.
(() => {
  for (const card of document.querySelectorAll(".card")) {
    const video = card.querySelector("video");
    for (const tab of card.querySelectorAll("[data-tab]")) {
      tab.addEventListener("click", () => {
        for (const other of card.querySelectorAll("[data-tab]")) other.setAttribute("aria-selected", String(other === tab));
        for (const panel of card.querySelectorAll("[data-panel]")) panel.hidden = panel.dataset.panel !== tab.dataset.tab;
        if (video) tab.dataset.tab === "turntable" ? video.play().catch(() => {}) : video.pause();
      });
    }
    for (const button of card.querySelectorAll("[data-save]")) {
      button.addEventListener("click", () => {
        const inside = button.querySelector("script");
        const shown = { "video/mp4": "video", "image/png": ".panel img" }[button.dataset.mime];
        const base64 = inside ? inside.textContent : card.querySelector(shown).getAttribute("src").split(",")[1];
        save(base64, button.dataset.mime, button.dataset.save);
      });
    }
    for (const button of card.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(button.dataset.copy);
          button.textContent = "Copied";
        } catch { // no clipboard on file:// in some browsers: leave the text selected instead
          getSelection().selectAllChildren(button.parentElement.querySelector("code"));
        }
      });
    }
  }

  function save(base64, mime, name) {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([bytes], { type: mime }));
    Object.assign(document.createElement("a"), { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }
})();
