"""The registrar: the service that executes registrations requested through the admin API.

A gateway writes a registration into Postgres. A registrar claims it and executes it in a separate process, because the
files belong to tenants: they may crash the process, and its memory is freed when it ends. Any number of registrars
share the work. Each may be killed at any time: another one resumes the registration.

Reading order: settings -> unpacking (a folder from an uploaded tar) -> staged_files (stages the files that a
registration names) -> working_folders (the folders that hold them) -> metrics, progress (writes the progress and
renews the claim) -> execute (executes a registration) -> process_limits -> registration_process (one registration,
from claim to outcome) -> claimer (claims registrations and supervises their processes) -> sweeper (deletes expired
uploads and registrations) -> service -> command, __main__.
"""
