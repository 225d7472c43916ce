"""`nsa serve`: an OpenAI-compatible HTTP server for one model, and a web page.

server      socket, startup and shutdown
routes      HTTP routes
middleware  access checks before every route
requests    parsing of request bodies
documents   document names to sources; `uploads` stores uploaded files
scheduler   the thread that runs the model
sse         events of the model's thread as server-sent events
excerpt     text around a citation
formats     answers, chunks and errors as JSON
listing     files of the served folder; `browsing` has the routes that show documents
page/       the web page; `assets` serves it
"""
