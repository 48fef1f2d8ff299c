"""The network: the only room that imports pynetdicom.

pynetdicom negotiates, keeps the state table, codes PDUs and serves; the transport below it is ours
(`upper_layer`, `server`, `requestor`). `store_scp` receives, `store_scu` sends and echoes.
"""
