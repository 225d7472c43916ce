"""`nsa serve`: one model behind an endpoint that speaks OpenAI's API, and a page to use it with.

server      the socket, and a clean end
app         routes, put together; `gate` stands before them: who may ask, and how much at once
requests    what a request says: question, conversation, documents
library     names of documents become sources, within one folder; `uploads` are kept for a while
worker      one thread with the model; readings are shared by all who wait for them
streams     what the model's thread says, sent on as it comes
excerpt     the text around a citation
replies     answers, chunks of answers and errors, as clients expect them
page.html   the page
"""
