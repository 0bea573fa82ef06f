"""The overview of a batch in a real browser: filters by state, prompt and verdict; what drivers say; prompts stay text."""

import time

from fleet.stores import in_every_state

from fsd_gs.fleet.driver import Tally
from fsd_gs.fleet.progress import Reporter
from fsd_gs.fleet.scan import PAGE, write_manifest


def test_the_page_filters_by_state_prompt_and_verdict(page, tmp_path):
    todo, store = in_every_state(tmp_path)
    done = tmp_path / todo[0].folder
    from PIL import Image

    Image.new("RGB", (32, 32), "red").save(done / "preview.png")
    marker = (done / "done.json").read_text()
    (done / "done.json").write_text(marker.replace('"files": {', '"files": {"preview.png": [1, ""], '))
    from rich.console import Console

    Reporter(store, Console(quiet=True), "d").write(Tally(6, found=1, began=time.monotonic() - 60))
    write_manifest(store)
    page.goto((tmp_path / PAGE).as_uri())

    def shown():
        return [card.inner_text() for card in page.locator("article").all()]

    assert len(shown()) == 6
    assert page.locator("article b").count() == 0, "prompts stay text"
    assert "a <b>chair</b>" in shown()[0]
    for state, count in (("done", 1), ("failed", 1), ("running", 1), ("waiting", 3), ("", 6)):
        page.click(f"nav button[data-state='{state}']")
        assert len(shown()) == count, state
    page.click("nav button[data-state='failed']")
    assert "rehearsed to fail" in shown()[0]
    page.fill("input", "nothing like it")
    assert page.locator(".none").is_visible()
    page.fill("input", "chair 1")
    assert len(shown()) == 1, "a word, or the number of a seed"
    page.click("nav button[data-state='']")
    page.fill("input", "")
    page.select_option("select", "rehearsal")
    assert len(shown()) == 1
    assert page.locator("article img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    assert "1 of 6" in page.locator("table").inner_text()
