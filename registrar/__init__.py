"""The registrar: does the registrations that were asked for through the admin API.

A gateway writes a registration into Postgres; a registrar claims it and does it in a process of its own, whose memory
goes with it and which may crash: what is registered is somebody's file. Any number of registrars share the work, and
each may be killed at any moment: another one goes on where it was.

Reading order: settings -> unpacking (a folder out of an upload) -> given_files (what a registration names, as files
here) -> working_folders (where these lie meanwhile) -> metrics, progress (how far it is, and whether it still is ours)
-> todo (what is to be done, in the registry's words) -> process_limits -> registration_process (one registration, from
claim to end) -> desk (claims, and watches these processes) -> sweeper (what nobody needs any more) -> service ->
command, __main__.
"""
