"""What the Standard says, as pure functions and tables: no socket, file, thread or clock.

`scan` finds the elements of an encoded data set (`walk`, `layout`, `encoded`, `dictionary` with its
`vr_table`), `convert` brings it into another native transfer syntax (`rewrite`, `rewrite_vr`,
`byte_order`), `part10` codes the file header, `contexts` chooses presentation contexts, `identity`
compares an instance with its command, `status` and `uids` are tables.
"""
