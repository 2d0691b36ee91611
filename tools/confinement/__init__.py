"""Commands work on a model in a child process that may do little: a model is somebody else's.

`supervisor` starts that process and says how it ended, `child` is what a command calls once it
knows its arguments, `landlock`, `sockets` and
`privileges` ask the kernel. Standard library only, besides
`tools.files`.
"""
