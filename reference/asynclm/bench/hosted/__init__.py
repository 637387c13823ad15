"""`asynclm bench hosted`: sessions on a chat API against ordinary tool calling on the same one."""
