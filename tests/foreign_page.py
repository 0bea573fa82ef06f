"""A page of another site that tries to reach one of ours by every road a browser has; ``outcome`` says what it got."""

FOREIGN = """<!doctype html><title>another site</title><script>
const outcome = {};
const socket = new WebSocket("ws://TARGET/", ["viser-vVERSION"]);
socket.onopen = () => outcome.socket = "open";
socket.onmessage = () => outcome.socket = "talks";
socket.onerror = () => outcome.socket ??= "refused";
fetch("http://TARGET/").then(() => outcome.fetch = "read", () => outcome.fetch = "refused");
</script><iframe src="http://TARGET/" onload="outcome.frame = true" style="width:600px;height:400px"></iframe>"""


def foreign_page(target: str, version: str) -> str:
    """target: host and port of the page that is attacked. version: of viser, which its sockets ask for."""
    return FOREIGN.replace("TARGET", target).replace("VERSION", version)
