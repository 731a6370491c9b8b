"""The console: pages under `/console` that show the system in a browser, and forms for the acts of its administrators.

Pages are rendered here, by jinja2, and updated by server-sent events. A page reads and changes the system through the
endpoints of `admin/` with the caller's rights, so it can do nothing that a script cannot.

Reading order: sessions (signed cookies, tokens of forms) -> visit (one request with its caller) -> page (declaration of
pages and acts) -> forms (bodies of forms) -> rendering (templates, static files, headers) -> stream (updates of an open
page) -> overview, task, models, scale, jobs, dead_letters, access (one file a page) -> pages (all of them) -> oidc
(sign-in at the issuer), sign_in (by a key) -> routes -> asking, registering (forms that are more than an act),
downloads (results of batches).
"""
