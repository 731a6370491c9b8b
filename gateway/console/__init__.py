"""The console: pages under `/console` that show the system in a browser, and forms for the acts of its administrators.

Pages are rendered here, by jinja2, and updated by server-sent events. A page reads and changes the system through the
endpoints of `admin/` with the caller's rights, so it can do nothing that a script cannot.

Reading order: sessions (signed cookies, tokens of forms) -> visit (one request with its caller) -> page (declaration of
pages and acts) -> forms (bodies of forms) -> rendering (templates, static files, headers) -> stream (updates of an open
page) -> the pages: overview, task, asking, models, registering, scale, jobs, dead_letters, access -> sign_in (keys),
oidc (sign-in at the issuer) -> routes (all of it).
"""
