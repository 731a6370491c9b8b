"""The services that execute stored registrations and removals.

A gateway writes a registration into Postgres. The registrar claims it and executes it in a separate process, because
the files belong to tenants: they may crash the process, and its memory is freed when it ends. Any number of registrars
share the work. Each may be killed at any time: another one resumes the registration. Removals need no process of their
own, so gateways execute them.

Reading order: settings -> staged_files (stages the files that a registration names) -> progress (writes the progress
and renews the claim) -> execute (executes a registration) -> registration_process (one registration, from claim to
outcome) -> claimer (claims registrations and supervises their processes) -> service (the registrar, with its working
folder and clean-up), __main__ -> removals (claims and executes removals, in a gateway).
"""
