"""Reply streams: results go directly to the receiver that waits for them, over a connection instead of a reply topic.

    sender (worker, selector)                         receiver (gateway, client library)
    TLS, if the header names a certificate ->
    HELLO     magic, nonce                 ->
                                           <-         CHALLENGE  nonce, proof that it knows the token
    PROOF     proof that it knows it, too  ->
    frames    a result each, or keepalive  ->
                                           <-         number of results received so far

A header of the query holds the address and the token of the receiver. The token is random and is valid while the
receiver exists. If results are encrypted, the header also holds the fingerprint of the receiver's certificate. A result
that cannot go this way, or is not acknowledged soon, goes to the reply topic: nothing depends on a stream.

Reading order: encryption (certificates) -> address (the query's header) -> settings (address to listen on, networks to
connect to) -> handshake (the proofs) -> frames (results in bytes) -> ack_window (unacknowledged results) ->
sender_connection (a sender's connection to one receiver) -> sender (connections to all receivers) -> places (limits for
a receiver's connections) -> receiver_connection (a receiver's connection of one sender) -> receiver (connections of all
senders).
"""
