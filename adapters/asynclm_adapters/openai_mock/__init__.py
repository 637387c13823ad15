"""A scripted server that speaks the OpenAI chat-completions API: an upstream for tests and benchmarks.

Knows nothing of AsyncLM: may import `asynclm.cli.faults` (its command alone) and aiohttp (its HTTP modules), nothing
else of this project. Started by `asynclm mock-openai`, or in one's own process as `server.MockOpenAI`.
"""
