"""A scripted server that speaks the OpenAI chat-completions API: an upstream for tests and benchmarks.

Knows nothing of AsyncLM: imports nothing of this project but `asynclm.cli.faults`, for its command. Only `server`,
`admin` and `writing` import aiohttp. Started by `asynclm mock-openai`, or in one's own process as `server.MockOpenAI`.
"""
