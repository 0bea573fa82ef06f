"""How much the live viewer slows training: python benchmarks/live_viewer.py [--browser | --full-rate] [--splats N] [--seconds S]

One run, whose steps are shown in alternating blocks: block 0 without, block 1 with the viewer, and so on, so that whatever else the machine
does hits both alike. Printed: the median and mean time from step to step of both kinds, and their ratio. ``--browser`` connects a headless
Chromium at the lowest priority; it has to draw on the CPU here, which a browser with a GPU leaves alone, so its figure is too high.
``--full-rate`` sends as many updates as if somebody watched, without anybody.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from fsd_gs.train.api import generate
from fsd_gs.train.loop import Observer, StepReport, StopRun
from fsd_gs.train.session import Session
from fsd_gs.viewer.live import LiveSettings, LiveViewer
from fsd_gs.viewer.server import address, open_server

BLOCK_SECONDS = 2.0


class Alternating(Observer):
    """Lets the viewer see every other block of steps, and keeps the times of both kinds."""

    def __init__(self, viewer: LiveViewer, seconds: float, warm_up: int = 20) -> None:
        self.viewer, self.seconds, self.warm_up = viewer, seconds, warm_up
        self.times: dict[bool, list[float]] = {False: [], True: []}
        self._began = self._last = 0.0

    def started(self, session: Session) -> None:
        self.viewer.started(session)

    def stepped(self, session: Session, report: StepReport) -> None:
        now = time.perf_counter()
        if report.step <= self.warm_up:
            self._began = self._last = now
            return
        block = int((now - self._began) / BLOCK_SECONDS)
        watched, fresh = block % 2 == 1, (self._last - self._began) // BLOCK_SECONDS != block
        if watched:
            self.viewer.stepped(session, report)
        after = time.perf_counter()
        if not fresh:  # the first step of a block may still pay for the block before
            self.times[watched].append(after - self._last)
        self._last = after
        if now - self._began > self.seconds:
            raise StopRun

    def closed(self) -> None:
        self.viewer.closed()


def browse(stack: ExitStack, url: str, folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    polite = folder / "chromium"
    polite.write_text(f'#!/bin/sh\nexec nice -n 19 "{shutil.which("chromium")}" "$@"\n')
    polite.chmod(0o755)
    flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    driver = stack.enter_context(sync_playwright())
    browser = driver.chromium.launch(executable_path=polite, headless=True, args=flags)
    stack.callback(browser.close)
    page = browser.new_page(viewport={"width": 900, "height": 500})
    page.goto(url)
    page.wait_for_timeout(3000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("--full-rate", action="store_true")
    parser.add_argument("--splats", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    overrides = ["steps=1000000", f"splats.count={options.splats}", "densify.kind=none", "render.sizes=[128]", "render.size_at=[0.0]"]
    settings = LiveSettings(idle_seconds=0.0) if options.full_rate else LiveSettings()
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        server = open_server(port=0, say=print)
        stack.callback(server.stop)
        if options.browser:
            browse(stack, address(server), Path(folder))
        observer = Alternating(LiveViewer(server, "benchmark", Path(folder), settings=settings), options.seconds)
        generate("a red chair", overrides=overrides, callbacks=[observer])
        clients = len(server.get_clients())
    for watched, name in ((False, "without"), (True, "with   ")):
        times = observer.times[watched]
        middle, mean = 1e3 * statistics.median(times), 1e3 * statistics.fmean(times)
        print(f"{name} viewer: {len(times)} steps, median {middle:.2f} ms, mean {mean:.2f} ms")
    ratios = [average(observer.times[True]) / average(observer.times[False]) - 1 for average in (statistics.median, statistics.fmean)]
    print(f"{options.splats} splats, {clients} browsers: {100 * ratios[0]:+.1f} % (median), {100 * ratios[1]:+.1f} % (mean)")


if __name__ == "__main__":
    main()
