"""``fsd-gs app``: assets for several people on one machine: a queue, a page, and a REST API. Start reading at ``jobs``, then ``api``."""
