"""The language: control tokens, blocks, both spellings, the incremental parser, tokenizer bindings.

Imports no other package of this project, no IO, no clock. Everything else imports it.
"""
