"""The service: what runs as a program, and what keeps it running.

`supervisor` starts, watches and stops `process`es: receivers (`receiver`, `pipeline`, `relaying`)
and one `deliverer`. `node` is both in one program. `status`, `metrics` and `web` show what they
report; `audit` keeps who did what and `syslog` sends it on; `doctor` says what is wrong and
`startable` what would stop a start; `logs` and `systemd` speak to the machine. `batch`,
`rewriting`, `places` and `tree` are the engine of `dcmpress compress`.
"""
