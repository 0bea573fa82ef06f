"""Looking at assets: the offline gallery of a prompt, and live pages in the browser."""
