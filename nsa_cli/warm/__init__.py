"""The way from `nsa ask` and `nsa find` to a running `nsa serve`, over a Unix socket.

address     which socket belongs to a model and its settings
protocol    requests, events and errors as JSON
client      asks the server

The client reads and parses the documents itself, so that errors, notes and names are those of
every other command. It sends the parsed text; the server opens no file for it. No torch here.
"""
