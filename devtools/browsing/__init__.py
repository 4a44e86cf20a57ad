"""Opens the pages in a browser, for screenshots and for the tests that check every page."""
