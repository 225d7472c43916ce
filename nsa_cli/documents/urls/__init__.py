"""Documents behind http and https URLs.

access     what may be fetched: limits, private addresses, the cache
addresses  public addresses, and a connection to a checked one
exchange   one request and its response, within the limits
kinds      content types
kept       responses on disk, by their ETag
fetch      redirects, and the bytes of a URL
"""
