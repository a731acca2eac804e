"""The laboratory: loopback vendors with their real rules, and faults on demand.

Slack, Microsoft, Google, Clio, QuickBooks Online, Bexio, a general HTTP vendor and S3.

It stands outside the floors and imports nothing of flow8's, so that it cannot share our mistakes. Start it with
`python -m flow8_lab` (people) or `python -m flow8_lab --json` (machines); from Python, `flow8_lab.client.start()`
runs it as a child and talks to its control API.
"""
